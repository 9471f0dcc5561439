"""The history of one uid in one cohort, as `why` reads it."""

import sqlite3

from engine.ledger.plan_records import PlanRecord
from engine.ledger.run_records import RunEntry, UidAttempt, UidRejection
from engine.ledger.snapshot_records import Generation
from engine.ledger.sqlite.history import entries
from engine.ledger.sqlite.plans import is_partial, plan_of
from engine.ledger.sqlite.runs import unrecorded_pushes
from engine.ledger.sqlite.snapshot_index import generations
from engine.model.cohort import CohortKey, Operation


class UidHistory:
    """The snapshots, runs and attempts of one ledger that concern a uid of a cohort.

    Its methods block, and only one thread may use the connection at a time. "Recorded runs" are
    those whose uids are kept in files; runs of a shadow are left out.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def knows_cohort(self, key: CohortKey) -> bool:
        """Return whether the ledger has any run or snapshot of a cohort."""
        found = self._connection.execute(
            "SELECT 1 FROM run WHERE partner = ?1 AND cohort_id = ?2 UNION ALL "
            "SELECT 1 FROM generation WHERE partner = ?1 AND cohort_id = ?2 LIMIT 1",
            (key.partner, key.cohort_id),
        ).fetchone()
        return found is not None

    def generations(self, key: CohortKey) -> list[Generation]:
        """Return every snapshot of a cohort, the current one first."""
        return generations(self._connection, key)

    def plan_of(self, run: int) -> PlanRecord | None:
        """Return the plan of a mirror; None if there is none."""
        return plan_of(self._connection, run)

    def is_partial(self, key: CohortKey) -> bool:
        """Return whether uids that the snapshot does not have may be members."""
        return is_partial(self._connection, key)

    def recorded_run(self, key: CohortKey, run: int) -> list[RunEntry]:
        """Return the recorded run of the cohort with that number; [] if there is none."""
        return self._recorded(key, "run.run = ?", run)

    def recorded_since(self, key: CohortKey, attempt: int) -> list[RunEntry]:
        """Return the recorded runs with an attempt after that one, the latest first."""
        sent_after = "EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > ?)"
        return self._recorded(key, sent_after, attempt)

    def not_in_snapshot(self, key: CohortKey) -> list[RunEntry]:
        """Return the recorded runs with attempts that no snapshot includes, the latest first."""
        return self._recorded(
            key, "attempt < (SELECT max(id) FROM attempt AS a WHERE a.run = run.run)"
        )

    def planned_runs(self, key: CohortKey) -> list[RunEntry]:
        """Return the mirrors that have made a plan, the latest first."""
        return self._recorded(key, "plan.run IS NOT NULL")

    def _recorded(self, key: CohortKey, condition: str, *values: object) -> list[RunEntry]:
        return entries(
            self._connection,
            "JOIN followed USING (run) LEFT JOIN plan USING (run) WHERE partner = ? "
            f"AND cohort_id = ? AND coalesce(is_shadow, 0) = 0 AND {condition} ORDER BY run DESC",
            (key.partner, key.cohort_id, *values),
        )

    def last_attempt(self, run: int, operation: Operation, place: int) -> UidAttempt | None:
        """Return the last attempt of the batch that held a place; None if there was none.

        `place` counts the uids of the operation from 0.
        """
        row = self._connection.execute(
            "SELECT batch, attempt, outcome, coalesce(sent_utc_ns, intended_utc_ns), http_status, "
            "request_id, coalesce(a.reason, b.reason) FROM batch AS b JOIN attempt AS a "
            "USING (run, batch) WHERE run = ? AND leg = ? AND first_uid <= ? "
            "AND first_uid + uid_count > ? AND state <> 'split' ORDER BY attempt DESC LIMIT 1",
            (run, operation.value, place, place),
        ).fetchone()
        return row and UidAttempt(*row)

    def unrecorded_pushes(self, key: CohortKey) -> list[RunEntry]:
        """Return the pushes whose uids no snapshot includes, the earliest first.

        A list that was adopted or reconciled later replaces what they sent.
        """
        names = unrecorded_pushes(self._connection, key)
        return [
            run for name in names for run in entries(self._connection, "WHERE name = ?", (name,))
        ]

    def rejections(self, key: CohortKey, uid: str) -> list[UidRejection]:
        """Return each run's rejection of a uid, the earliest first."""
        rows = self._connection.execute(
            "SELECT name, coalesce(max(ended_utc_ns), started_utc_ns) AS at, rejected.reason, "
            "rejected.request_id FROM rejected "
            "JOIN run USING (run) LEFT JOIN attempt USING (run, batch) "
            "WHERE partner = ? AND cohort_id = ? AND uid = ? GROUP BY run, batch ORDER BY at",
            (key.partner, key.cohort_id, uid),
        )
        return [UidRejection(*row) for row in rows]
