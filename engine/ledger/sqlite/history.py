"""The runs of a ledger, as reports read them."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.ledger.damage import corrupt
from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import MIRROR
from engine.ledger.run_records import (
    ALL_RUNS,
    AttemptRecord,
    EarlierRejection,
    ExecutionRecord,
    KeptPlan,
    LastRun,
    RejectRecord,
    RunEntry,
    RunFilter,
    RunRecord,
    RunTotals,
    StoredRequest,
)
from engine.ledger.sqlite.files import files_of
from engine.ledger.sqlite.plans import open_plan, overtaken_by, plan_of
from engine.ledger.sqlite.runs import later_run
from engine.ledger.sqlite.snapshot_index import current
from engine.ledger.sqlite.syncs import latest_records, records_since
from engine.ledger.sqlite.totals import count, stored
from engine.ledger.sync_records import SyncRecord
from engine.model.cohort import CohortKey
from engine.model.status import RESUMABLE, RunStatus
from engine.pacing.budget import Spending
from engine.pacing.pacer import PaceRecord
from engine.source.source_file import SourceFile
from engine.source.spec import SourceSpec


class RunHistory:
    """The runs of one ledger, by their names.

    Its methods block, and only one thread may use the connection at a time. Those that take the
    name of a run raise `KeyError` if the ledger has no such run, unless they say otherwise.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Give all reads of the block the same view of the ledger as the first one."""
        if self._connection.in_transaction:  # An outer block, or the writer's transaction.
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()  # Nothing was written.

    def names(self, wanted: RunFilter = ALL_RUNS) -> list[str]:
        """Return the names of the runs that a filter selects, in the order in which they began."""
        statuses = None if wanted.statuses is None else json.dumps(list(wanted.statuses))
        conditions: dict[str, object] = {
            "status IN (SELECT value FROM json_each(?))": statuses,
            "cohort_id = ?": wanted.cohort_id,
            "started_utc_ns >= ?": wanted.since_utc_ns,
            "name >= ?": wanted.prefix or None,
            "name < ?": wanted.prefix + _LAST_CHARACTER if wanted.prefix else None,
            f"(action = '{MIRROR}') = ?": wanted.is_mirror,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        rows = self._connection.execute(
            f"SELECT name FROM run WHERE {' AND '.join(given) or 1} ORDER BY run",  # noqa: S608 - ours
            list(given.values()),
        )
        return [name for (name,) in rows]

    def entry(self, name: str) -> RunEntry | None:
        """Return a run; None if the ledger does not have it."""
        return next(iter(entries(self._connection, "WHERE name = ?", (name,))), None)

    def record(self, name: str, *, is_recounted: bool = False) -> RunRecord:
        """Return the records from which a run's accounts are computed, all as of one moment.

        Totals that are stored with the run are used without a check, unless `is_recounted`. Then it
        raises `LedgerError` if they differ from the sums over its batches and attempts. It also
        raises `LedgerError` for values that no process of this program has written.
        """
        with self.one_moment():
            entry = self._known(name)
            totals = self._totals(entry, is_recounted=is_recounted)
            executions = self._executions(entry.number)
            if not executions:
                raise corrupt("a run has no process that began it")
            plan = plan_of(self._connection, entry.number) if entry.is_mirror else None
        return RunRecord(entry, totals, executions, plan)

    def _known(self, name: str) -> RunEntry:
        entry = self.entry(name)
        if entry is None:
            raise KeyError(name)
        return entry

    def _totals(self, entry: RunEntry, *, is_recounted: bool) -> RunTotals:
        found = stored(self._connection, entry.number)
        if found is not None and not is_recounted:
            return found
        counted = count(self._connection, entry.number)
        if found is not None and found != counted:
            raise corrupt(
                f"the totals stored with run {entry.name} are not those of its batches and attempts"
            )
        return counted

    def _executions(self, run: int) -> list[ExecutionRecord]:
        rows = self._connection.execute(_EXECUTIONS, (run,))
        return [ExecutionRecord(*(*columns, pace and _pace(pace))) for *columns, pace in rows]

    def plan(self, name: str) -> PlanRecord | None:
        """Return what a mirror plans; None for a push, or if it ended before its plan was made."""
        return plan_of(self._connection, self._known(name).number)

    def kept_plans(self) -> list[KeptPlan]:
        """Return the plans that were kept for `apply` and are not sent completely."""
        kept = entries(
            self._connection,
            "JOIN plan USING (run) WHERE NOT is_shadow AND status IN (?, ?) ORDER BY run",
            (RunStatus.PLANNED, RunStatus.CANARY),
        )
        found = []
        for run in kept:
            key = CohortKey(run.partner, run.cohort_id)
            plan = plan_of(self._connection, run.number)
            if plan is None:
                raise corrupt("a run is planned, and has no plan")
            is_closed = open_plan(self._connection, run.number) is None
            later = overtaken_by(self._connection, run.number, key)
            snapshot = current(self._connection, key)
            generation = snapshot.number if snapshot else None
            found.append(KeptPlan(run, plan, is_closed, later, generation))
        return found

    def files(self, name: str) -> list[SourceFile]:
        """Return the files of a run in the order in which they are read; [] if it is unknown."""
        return files_of(self._connection, name)

    def lifted_guards(self, name: str) -> list[dict[str, Any]]:
        """Return which guards were lifted for a push, by whom and why."""
        [text] = self._connection.execute(
            "SELECT lifted FROM run WHERE run = ?", (self._known(name).number,)
        ).fetchone()
        lifted: list[dict[str, Any]] = json.loads(text)
        return lifted

    def last_run(self, key: CohortKey) -> LastRun | None:
        """Return the last run of a cohort, without plans that were not sent.

        None if the ledger was restored since then: there may have been later runs.
        """
        found = self._connection.execute(
            "SELECT name FROM run WHERE partner = ? AND cohort_id = ? AND status NOT IN (?, ?) "
            "AND run > (SELECT coalesce(max(run), 0) FROM restored) ORDER BY run DESC LIMIT 1",
            (key.partner, key.cohort_id, RunStatus.PLANNED, RunStatus.SHADOW),
        ).fetchone()
        if found is None:
            return None
        [name] = found
        return LastRun(self.record(name), self.files(name), self.request(name).spec)

    def restored(self) -> tuple[int, int] | None:
        """Return of when the backup is that the ledger was last restored from, and when it was.

        Both are in ns since 1970. None if the ledger was never restored.
        """
        found: tuple[int, int] | None = self._connection.execute(
            "SELECT backup_utc_ns, restored_utc_ns FROM restored ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return found

    def running(self) -> list[RunEntry]:
        """Return the runs that no process has ended; its process may have died."""
        return entries(self._connection, "WHERE status = ? ORDER BY run", (RunStatus.RUNNING,))

    def cohorts(self) -> list[CohortKey]:
        """Return the cohorts that have a run, in no order."""
        rows = self._connection.execute("SELECT DISTINCT partner, cohort_id FROM run")
        return [CohortKey(*row) for row in rows]

    def last_success(self, key: CohortKey, action: str) -> int | None:
        """Return when a run with this action, or a sync of the cohort, last had exit status 0."""
        row = self._connection.execute(
            _LAST_SUCCESS, (key.partner, key.cohort_id, RunStatus.FINISHED, action)
        ).fetchone()
        found: int | None = row[0]
        return found

    def synced_since(self, utc_ns: int) -> list[SyncRecord]:
        """Return the cohorts of the syncs that began at `utc_ns` or later, the earliest first."""
        return records_since(self._connection, utc_ns)

    def synced_last(self) -> list[SyncRecord]:
        """Return the record of each cohort in the sync of it that ended last."""
        return latest_records(self._connection)

    def resumable(self) -> list[StoredRequest]:
        """Return the unfinished pushes that no later run of the same cohort has overtaken."""
        marks = ", ".join("?" for _ in RESUMABLE)
        found = self._requests(f"status IN ({marks}) AND action <> '{MIRROR}'", RESUMABLE)
        return [each for each in found if self._later_run(each) is None]

    def _later_run(self, run: RunEntry) -> str | None:
        return later_run(self._connection, run.number, CohortKey(run.partner, run.cohort_id))

    def request(self, name: str) -> StoredRequest:
        """Return a run with how it was requested, whatever its status."""
        for found in self._requests("name = ?", (name,)):
            return found
        raise KeyError(name)

    def _requests(self, condition: str, values: Sequence[str]) -> list[StoredRequest]:
        rows = self._connection.execute(
            f"SELECT {_RUN}, identity, exports, reading FROM run WHERE {condition}",  # noqa: S608 - our own words
            values,
        )
        return [
            StoredRequest(*(*columns, bool(complete), identity, _spec(exports, reading)))
            for *columns, complete, identity, exports, reading in rows
        ]

    def attempts(self, name: str) -> Iterator[AttemptRecord]:
        """Yield every attempt with its batch, by batch; includes batches without an attempt."""
        for row in self._connection.execute(_ATTEMPTS, (name,)):
            *columns, may_have_been_applied = row
            yield AttemptRecord(*(*columns, bool(may_have_been_applied)))

    def rejects(self, name: str) -> Iterator[RejectRecord]:
        """Yield every uid that was rejected and the rows that planned none, in export order."""
        for row in self._connection.execute(_REJECTS, (name,)):
            yield RejectRecord(*row)

    def earlier_rejection(self, uid: str, run: str) -> EarlierRejection | None:
        """Return the last rejection of a uid by an earlier run of the same cohort.

        None if that run is no longer kept.
        """
        row = self._connection.execute(_EARLIER, (uid, run)).fetchone()
        return row and EarlierRejection(*row)


def _pace(text: str) -> PaceRecord:
    try:
        record = json.loads(text)
        return PaceRecord(Spending(**record.pop("spending")), **record)
    except (LookupError, TypeError, ValueError) as error:
        raise corrupt("a process's record of its pace is broken") from error


def _spec(exports: str, reading: str) -> SourceSpec:
    return SourceSpec.from_dict({"exports": json.loads(exports), "reading": json.loads(reading)})


_LAST_CHARACTER = "\U0010ffff"
"""After each character that a name can hold: the end of the names with a prefix."""

_RUN = (
    "run, name, endpoint, workspace, partner, cohort_id, cohort_name, cohort_description, action, "
    "status, exit_status, reason, started_utc_ns, finished_utc_ns, source_complete"
)


def entries(
    connection: sqlite3.Connection, condition: str, values: Sequence[object]
) -> list[RunEntry]:
    """Return the runs that a query selects by the SQL after `FROM run`."""
    rows = connection.execute(f"SELECT {_RUN} FROM run {condition}", values)  # noqa: S608 - our own words
    return [RunEntry(*(*columns, bool(complete))) for *columns, complete in rows]


_LAST_SUCCESS = """
SELECT max(finished_utc_ns) FROM (
  SELECT finished_utc_ns FROM run
  WHERE partner = ?1 AND cohort_id = ?2 AND status = ?3 AND action = ?4 AND exit_status = 0
  UNION ALL
  SELECT finished_utc_ns FROM synced_cohort
  WHERE partner = ?1 AND cohort_id = ?2 AND exit_status = 0
)
"""

_EXECUTIONS = """
SELECT sitting, requests, per_seconds, hours, started_utc_ns, ended_utc_ns, pace
FROM sitting WHERE run = ? ORDER BY sitting
"""

_ATTEMPTS = """
SELECT batch, parent, first_uid, uid_count, payload_bytes, state,
       attempt, intended_utc_ns, sent_utc_ns, ended_utc_ns,
       outcome, http_status, request_id, coalesce(a.reason, b.reason), may_have_been_applied
FROM run JOIN batch AS b USING (run) LEFT JOIN attempt AS a USING (run, batch)
WHERE name = ? ORDER BY batch, attempt
"""

# The sizes list a run's files in the order in which they are read.
_REJECTS = """
WITH files AS (SELECT key AS file, id AS place FROM run, json_each(sizes) WHERE name = ?1),
     found AS (
  SELECT CASE WHEN s.reason LIKE 'blank%' THEN 'blank' ELSE 'invalid' END AS kind, file, place,
         record, count, s.reason AS reason, NULL AS uid, NULL AS request_id
  FROM run JOIN skipped AS s USING (run) LEFT JOIN files USING (file) WHERE name = ?1
  AND s.reason <> 'excluded'
  UNION ALL
  SELECT 'rejected', file, place, record, 1, r.reason, uid, request_id
  FROM run JOIN rejected AS r USING (run) LEFT JOIN files USING (file) WHERE name = ?1
)
SELECT kind, file, record, count, reason, uid, request_id FROM found ORDER BY place, record
"""

_EARLIER = """
SELECT name, rejected.reason, request_id FROM rejected JOIN run USING (run)
WHERE uid = ?1 AND run < (SELECT run FROM run WHERE name = ?2) AND (partner, cohort_id) =
  (SELECT partner, cohort_id FROM run WHERE name = ?2)
ORDER BY run DESC LIMIT 1
"""
