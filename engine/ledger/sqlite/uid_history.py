"""What was sent of one uid to one cohort, as `why` reads it."""

import sqlite3

from engine.ledger.sqlite.runs import unrecorded_pushes
from engine.ledger.uid_records import (
    CohortRun,
    ExternalGeneration,
    SnapshotFile,
    UidAttempt,
    UidRejection,
    UnrecordedPushes,
)
from engine.model.cohort import CohortKey, Operation


class UidHistory:
    """The snapshots, runs and attempts of one ledger that bear on a uid of a cohort.

    Its methods block, and belong to whoever uses the connection at the moment. "Recorded runs" are
    those whose uids are kept in files; runs of a shadow are left out.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def knows_cohort(self, key: CohortKey) -> bool:
        """Say whether the ledger has any run or snapshot of a cohort."""
        found = self._connection.execute(
            "SELECT 1 FROM run WHERE partner = ?1 AND cohort_id = ?2 UNION ALL "
            "SELECT 1 FROM generation WHERE partner = ?1 AND cohort_id = ?2 LIMIT 1",
            (key.partner, key.cohort_id),
        ).fetchone()
        return found is not None

    def current_snapshot(self, key: CohortKey) -> SnapshotFile | None:
        """Return the snapshot that counts; None if the cohort was never mirrored."""
        row = self._connection.execute(
            "SELECT generation, file FROM generation WHERE partner = ? AND cohort_id = ? "
            "AND NOT is_shadow ORDER BY generation DESC LIMIT 1",
            (key.partner, key.cohort_id),
        ).fetchone()
        return row and SnapshotFile(*row)

    def planned_from(self, key: CohortKey, run: int) -> SnapshotFile | None:
        """Return the snapshot that a mirror was planned from; None if there was none.

        Its file is None, too, where the ledger no longer has that generation.
        """
        generation, file = self._connection.execute(
            "SELECT plan.generation, file FROM plan LEFT JOIN generation AS g "
            "ON g.generation = plan.generation AND partner = ? AND cohort_id = ? "
            "AND NOT g.is_shadow WHERE plan.run = ?",
            (key.partner, key.cohort_id, run),
        ).fetchone()
        return None if generation is None else SnapshotFile(generation, file)

    def last_external(self, key: CohortKey) -> ExternalGeneration | None:
        """Return the last snapshot that no run made; None if there is none."""
        row = self._connection.execute(
            "SELECT generation, origin, made_utc_ns FROM generation WHERE partner = ? "
            "AND cohort_id = ? AND NOT is_shadow AND run IS NULL ORDER BY generation DESC LIMIT 1",
            (key.partner, key.cohort_id),
        ).fetchone()
        return row and ExternalGeneration(*row)

    def replaced_through(self, key: CohortKey) -> int:
        """Return the last attempt that a complete list of the members has made irrelevant; or 0."""
        (last,) = self._connection.execute(
            "SELECT coalesce(max(last_attempt), 0) FROM generation WHERE partner = ? "
            "AND cohort_id = ? AND NOT is_shadow AND origin IN ('reconcile', 'import')",
            (key.partner, key.cohort_id),
        ).fetchone()
        return int(last)

    def recorded_run(self, key: CohortKey, run: int) -> CohortRun | None:
        """Return a recorded run of the cohort by its number; None if it is none."""
        return next(iter(self._recorded(key, "run.run = ?", run)), None)

    def recorded_since(self, key: CohortKey, attempt: int) -> list[CohortRun]:
        """Return the recorded runs with an attempt after that one, the latest first."""
        sent_after = "EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > ?)"
        return self._recorded(key, sent_after, attempt)

    def not_in_snapshot(self, key: CohortKey) -> list[CohortRun]:
        """Return the recorded runs with attempts that no snapshot knows, the latest first."""
        return self._recorded(
            key, "attempt < (SELECT max(id) FROM attempt AS a WHERE a.run = run.run)"
        )

    def planned_runs(self, key: CohortKey) -> list[CohortRun]:
        """Return the mirrors that have come to a plan, the latest first."""
        return self._recorded(key, "plan.run IS NOT NULL")

    def _recorded(self, key: CohortKey, condition: str, *values: object) -> list[CohortRun]:
        rows = self._connection.execute(
            "SELECT run.run, name, started_utc_ns FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
            "LEFT JOIN plan USING (run) WHERE partner = ? AND cohort_id = ? "
            f"AND coalesce(is_shadow, 0) = 0 AND {condition} ORDER BY run.run DESC",
            (key.partner, key.cohort_id, *values),
        )
        return [CohortRun(*row) for row in rows]

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

    def unrecorded_pushes(self, key: CohortKey) -> UnrecordedPushes | None:
        """Return the pushes whose uids no snapshot knows; None if there are none.

        A list that was adopted or reconciled later replaces what they sent.
        """
        names = unrecorded_pushes(self._connection, key)
        if not names:
            return None
        row = self._connection.execute(
            "SELECT name, action, status, started_utc_ns FROM run WHERE name = ?", (names[-1],)
        ).fetchone()
        return UnrecordedPushes(len(names), *row)

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
