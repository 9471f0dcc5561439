"""The runs that the ledgers of a state folder know, and what is kept of each."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.ledger.locks import cohort_holder, is_held
from engine.ledger.records import MIRROR
from engine.ledger.sqlite.access import ledgers, readable_files
from engine.ledger.sqlite.plans import plan_of
from engine.ledger.sqlite.runs import later_run
from engine.ledger.sqlite.schema import failure_of, is_older, open_for_reading
from engine.model.cohort import CohortKey
from engine.model.status import RESUMABLE
from engine.report.accounts import Accounts, account, timestamp
from engine.report.planned import plan_document
from engine.storage.paths import plan_folder


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """How an unfinished run was asked for."""

    name: str
    identity: bytes
    """What the command that goes on with it has to share; see `identity_of`."""
    endpoint: str
    workspace: str
    partner: str
    cohort_id: str
    cohort_name: str
    cohort_description: str | None
    action: str
    exports: list[str]
    reading: dict[str, Any]

    @property
    def is_piped(self) -> bool:
        """Whether it read from a pipe."""
        return "-" in self.exports

    @property
    def target(self) -> tuple[str, str, str]:
        """Endpoint, workspace and partner."""
        return self.endpoint, self.workspace, self.partner


@contextmanager
def reading(path: Path, *, is_verified: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a ledger to read from, and close it; see `open_for_reading`.

    Where what it holds makes no sense to the block, damage that SQLite finds is what is raised.
    """
    with closing(open_for_reading(path, is_verified=is_verified)) as connection:
        try:
            with readable_files(path.parent):
                yield connection
        except Exception as error:
            failure = failure_of(error, connection, path)
            if failure is error:
                raise
            raise failure from error


def books_of(
    path: Path, ledger: sqlite3.Connection, run: str, *, is_recounted: bool = False
) -> Accounts:
    """Return the accounts of one run; one whose process has died is not taken for running.

    See `account` for `is_recounted`.
    """
    accounts = account(ledger, run, is_recounted=is_recounted)
    if accounts.status == "running" and not _is_worked_on(path.parent, ledger, accounts):
        return replace(accounts, status="incomplete", reason="the process died")
    return accounts


def _is_worked_on(folder: Path, ledger: sqlite3.Connection, accounts: Accounts) -> bool:
    """Say whether a living process works on a run: it holds the run's cohort.

    A program of version 0.1 locks the whole workspace instead.
    """
    if is_older(ledger):
        return is_held(folder)
    return cohort_holder(folder, CohortKey(accounts.partner, accounts.cohort_id)) is not None


def all_runs(state: Path) -> list[Accounts]:
    """Return the books of every run, the latest first."""
    found: list[Accounts] = []
    for path in ledgers(state):
        with reading(path) as ledger:
            names = [name for (name,) in ledger.execute("SELECT name FROM run")]
            found += [books_of(path, ledger, name) for name in names]
    return sorted(found, key=lambda accounts: accounts.started_at, reverse=True)


def find_ledger(state: Path, run: str) -> Path:
    """Return the ledger that knows `run`; raises `UsageError` if none does."""
    for path in ledgers(state):
        with reading(path) as ledger:
            if ledger.execute("SELECT 1 FROM run WHERE name = ?", (run,)).fetchone():
                return path
    raise UsageError(
        f"no run {run} in the state folder {state}", hint="`cohortsync runs` lists them"
    )


def find_unfinished(
    state: Path, run: str | None, target: tuple[str, str, str] | None = None
) -> UnfinishedRun | None:
    """Return run `run`, or the latest unfinished one, or None if there is none.

    The latest is looked for among those of `target` (endpoint, workspace and partner), if given,
    and that no later run of the same cohort has overtaken. A run that a process works on is
    unfinished, too. Raises `UsageError` if `run` is unknown or has
    ended for good.
    """
    if run is None:
        found = unfinished_runs(state, target)
        # A pipe's run only its own command can go on with.
        files = [each for each in found if not each.is_piped]
        return next(reversed(files or found), None)
    with reading(find_ledger(state, run)) as ledger:
        row = ledger.execute("SELECT * FROM run WHERE name = ?", (run,)).fetchone()
        found_by_name = _unfinished(row)
    if row["action"] == MIRROR:
        raise UsageError(
            f"run {run} is a mirror, which is not resumed",
            hint="run the same mirror again: it plans anew, from what the API has acknowledged",
        )
    if row["status"] in RESUMABLE:
        return found_by_name
    raise UsageError(
        f"run {run} is {row['status']}: there is nothing to resume", hint=_HINTS.get(row["status"])
    )


def unfinished_runs(state: Path, target: tuple[str, str, str] | None) -> list[UnfinishedRun]:
    """Return the pushes that can be gone on with, the earliest first; see `find_unfinished`."""
    runs = [run for path in ledgers(state) for run in _open(path)]
    found = [run for _, run in sorted(runs, key=lambda each: each[0])]
    return [each for each in found if target in {None, each.target}]


_HINTS = {
    "finished": "the command that it was begun with starts a new run",
    "abandoned": "a new run of the same command took its place: `cohortsync runs` lists it",
    "unbalanced": "this is a bug in cohortsync; keep the state folder and report it",
}
"""What to do about a run that has ended for good, by its status."""


def _open(path: Path) -> list[tuple[int, UnfinishedRun]]:
    """Return the unfinished runs of a ledger, each with when it was started."""
    marks = ", ".join("?" for _ in RESUMABLE)
    with reading(path) as ledger:
        rows = ledger.execute(
            f"SELECT * FROM run WHERE status IN ({marks}) AND action <> '{MIRROR}'",  # noqa: S608 - marks are question marks
            RESUMABLE,
        ).fetchall()
        return [
            (row["started_utc_ns"], _unfinished(row))
            for row in rows
            if later_run(ledger, row["run"], CohortKey(row["partner"], row["cohort_id"])) is None
        ]


def _unfinished(row: sqlite3.Row) -> UnfinishedRun:
    return UnfinishedRun(
        row["name"],
        row["identity"],
        row["endpoint"],
        row["workspace"],
        row["partner"],
        row["cohort_id"],
        row["cohort_name"],
        row["cohort_description"],
        row["action"],
        json.loads(row["exports"]),
        json.loads(row["reading"]),
    )


def plan_shown(ledger: sqlite3.Connection, run: str) -> dict[str, Any] | None:
    """Return what a mirror plans, as plain values; None for a push, or if it never knew."""
    (number,) = ledger.execute("SELECT run FROM run WHERE name = ?", (run,)).fetchone()
    record = plan_of(ledger, number)
    return None if record is None else plan_document(record)


def attempts_of(ledger: sqlite3.Connection, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield every attempt of a run beside its batch, batches without an attempt too."""
    for row in ledger.execute(_ATTEMPTS, (run,)):
        record = dict(row)
        for key in ("intended_at", "sent_at", "ended_at"):
            record[key] = None if record[key] is None else timestamp(record[key])
        record["may_have_been_applied"] = bool(record["may_have_been_applied"])
        yield record


ATTEMPT_COLUMNS = (
    *("batch", "parent", "first_uid", "uid_count", "payload_bytes", "state"),
    *("may_have_been_applied", "attempt", "intended_at", "sent_at", "ended_at", "outcome"),
    *("http_status", "request_id", "reason"),
)
"""The keys of `attempts_of`."""
REJECT_COLUMNS = ("kind", "file", "record", "reason", "uid", "request_id")
"""The keys of `rejects_of`."""

_ATTEMPTS = """
SELECT batch, parent, first_uid, uid_count, payload_bytes, state, may_have_been_applied,
       attempt, intended_utc_ns AS intended_at, sent_utc_ns AS sent_at, ended_utc_ns AS ended_at,
       outcome, http_status, request_id, coalesce(a.reason, b.reason) AS reason
FROM run JOIN batch AS b USING (run) LEFT JOIN attempt AS a USING (run, batch)
WHERE name = ? ORDER BY batch, attempt
"""


def rejects_of(path: Path, ledger: sqlite3.Connection, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield every uid rejected and every row that planned none, one by one, in export order.

    `kind` is `rejected`, `invalid` or `blank`; `uid` and `request_id` are of rejected uids only.
    A mirror's uids that were rejected on an earlier night come first, as long as its plan is kept.
    """
    yield from _left_alone(path, ledger, run)
    for row in ledger.execute(_REJECTS, (run,)):
        for record in range(row["record"], row["record"] + row["count"]):
            yield {
                "kind": row["kind"],
                "file": row["file"],
                "record": record,
                "reason": row["reason"],
                "uid": row["uid"],
                "request_id": row["request_id"],
            }


def _left_alone(path: Path, ledger: sqlite3.Connection, run: str) -> Iterator[Mapping[str, Any]]:
    """Yield the uids that a mirror has left alone, with why they were rejected before."""
    (number,) = ledger.execute("SELECT run FROM run WHERE name = ?", (run,)).fetchone()
    plan = plan_of(ledger, number)
    known = (
        {operation: each for operation, each in plan.operations.items() if each.known}
        if plan
        else {}
    )
    if not known:
        return
    # These read Parquet, whose library is large.
    from engine.snapshot.operation_file import operation_blocks  # noqa: PLC0415 - see above
    from engine.storage.paths import operation_path  # noqa: PLC0415 - see above

    for operation, counts in known.items():
        operation_file = operation_path(plan_folder(path.parent, run), operation)
        if not operation_file.exists():
            continue
        record = counts.planned
        for block in operation_blocks(operation_file, record, record + counts.known):
            for uid in block.uids.to_pylist():
                record += 1
                earlier = ledger.execute(_EARLIER, (uid, number, number)).fetchone()
                yield {
                    "kind": "rejected",
                    "file": operation_file.stem,
                    "record": record,
                    "reason": f"left alone, as run {earlier['name']} has it: {earlier['reason']}",
                    "uid": uid,
                    "request_id": earlier["request_id"],
                }


_EARLIER = """
SELECT name, rejected.reason AS reason, request_id FROM rejected JOIN run USING (run)
WHERE uid = ? AND run < ? AND (partner, cohort_id) =
  (SELECT partner, cohort_id FROM run WHERE run = ?)
ORDER BY run DESC LIMIT 1
"""

# The sizes name a run's files in the order in which they are read.
_REJECTS = """
WITH files AS (SELECT key AS file, id AS place FROM run, json_each(sizes) WHERE name = ?1)
SELECT CASE WHEN s.reason LIKE 'blank%' THEN 'blank' ELSE 'invalid' END AS kind, file, place,
       record, count, s.reason AS reason, NULL AS uid, NULL AS request_id
FROM run JOIN skipped AS s USING (run) LEFT JOIN files USING (file) WHERE name = ?1
UNION ALL
SELECT 'rejected', file, place, record, 1, r.reason, uid, request_id
FROM run JOIN rejected AS r USING (run) LEFT JOIN files USING (file) WHERE name = ?1
ORDER BY place, record
"""
