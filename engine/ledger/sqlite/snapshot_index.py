"""The snapshots that were made, and the runs that each includes.

The functions work on a connection, inside their caller's transaction; `SnapshotIndex` has each as a
method with its own transaction.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, replace

from engine.clock import Stamp
from engine.ledger.snapshot_records import Generation, LastSend, RangeOutcome, RunUids, Unfolded
from engine.ledger.sqlite.store import Store, by_reader, in_transaction
from engine.model.cohort import CohortKey, Operation


def current(connection: sqlite3.Connection, key: CohortKey) -> Generation | None:
    """Return the current snapshot; None if the cohort was never mirrored."""
    return next(iter(generations(connection, key)), None)


def generations(connection: sqlite3.Connection, key: CohortKey) -> list[Generation]:
    """Return every snapshot that was made, the latest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM generation WHERE partner = ? AND cohort_id = ? "  # noqa: S608 - our own words
        "AND is_shadow = ? ORDER BY generation DESC",
        key.values,
    )
    return [
        Generation(*(*columns, Stamp(boot_id, boot_ns, utc_ns), last_attempt, json.loads(lifted)))
        for *columns, boot_id, boot_ns, utc_ns, last_attempt, lifted in rows
    ]


_COLUMNS = (
    "generation, run, file, digest, members, unknown, out, origin, made_boot_id, made_boot_ns, "
    "made_utc_ns, last_attempt, lifted"
)
"""In the order of the fields of `Generation`."""


def intend_to_make(connection: sqlite3.Connection, key: CohortKey, number: int) -> None:
    """Record that a snapshot's file is about to be made."""
    connection.execute(
        "INSERT INTO making (partner, cohort_id, is_shadow, generation) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET generation = excluded.generation",
        (*key.values, number),
    )


def being_made(connection: sqlite3.Connection, key: CohortKey) -> int | None:
    """Return the number of a snapshot whose making has not ended; None if there is none."""
    found: tuple[int] | None = connection.execute(
        "SELECT generation FROM making WHERE partner = ? AND cohort_id = ? AND is_shadow = ?",
        key.values,
    ).fetchone()
    return found and found[0]


def enter(connection: sqlite3.Connection, key: CohortKey, generation: Generation) -> None:
    """Make a snapshot, whose file is on the disk, the current one."""
    connection.execute(
        "DELETE FROM making WHERE partner = ? AND cohort_id = ? AND is_shadow = ?", key.values
    )
    *columns, made, last_attempt, lifted = astuple(generation)
    connection.execute(
        f"INSERT INTO generation (partner, cohort_id, is_shadow, {_COLUMNS}) "  # noqa: S608 - our own words
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*key.values, *columns, *made, last_attempt, json.dumps(lifted)),
    )


def drop(connection: sqlite3.Connection, key: CohortKey, numbers: Sequence[int]) -> None:
    """Record that the files of these snapshots are no longer kept."""
    connection.executemany(
        "UPDATE generation SET file = NULL WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "AND generation = ?",
        [(*key.values, number) for number in numbers],
    )


def unfolded(connection: sqlite3.Connection, key: CohortKey) -> list[Unfolded]:
    """Return the runs that the snapshot does not include completely, in their order."""
    return _followed(connection, key, "last > attempt")


def sent_since(connection: sqlite3.Connection, key: CohortKey, attempt: int) -> list[Unfolded]:
    """Return the recorded runs that have sent anything after an attempt, in their order."""
    return _followed(connection, key, "last > ?", attempt)


def _followed(
    connection: sqlite3.Connection, key: CohortKey, condition: str, *values: int
) -> list[Unfolded]:
    rows = connection.execute(
        "SELECT run, name, (SELECT coalesce(max(id), 0) FROM attempt AS a WHERE a.run = run.run) "  # noqa: S608 - our own words
        "AS last, attempt FROM run JOIN followed USING (run) "
        f"WHERE partner = ? AND cohort_id = ? AND {condition} ORDER BY run",
        (key.partner, key.cohort_id, *values),
    )
    return [] if key.is_shadow else [Unfolded(*row) for row in rows]


def last_attempt(connection: sqlite3.Connection) -> int:
    """Return the number of the ledger's last attempt."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    return int(last)


# A part of a split batch shares the attempts of its parent batch.
_RANGE_OUTCOMES = """
WITH RECURSIVE tried (batch, leaf) AS (
  SELECT batch, batch FROM batch WHERE run = ?1 AND state <> 'split'
  UNION ALL
  SELECT b.parent, leaf FROM tried JOIN batch AS b ON b.run = ?1 AND b.batch = tried.batch
  WHERE b.parent IS NOT NULL
)
SELECT leg, first_uid, uid_count, state = 'accepted' FROM batch AS b
WHERE run = ?1 AND leg <> 'resend' AND (
  state = 'accepted' OR state <> 'split' AND (may_have_been_applied OR EXISTS (
    SELECT 1 FROM attempt AS a WHERE a.run = ?1 AND a.batch = b.batch AND a.outcome IS NULL))
) AND batch IN (
  SELECT leaf FROM tried JOIN attempt AS a ON a.run = ?1 AND a.batch = tried.batch WHERE a.id > ?2
)
ORDER BY leg, first_uid
"""


def range_outcomes(connection: sqlite3.Connection, run: int, after: int) -> list[RangeOutcome]:
    """Return the places of a run that may have changed the cohort by attempts after `after`.

    They are disjoint. Members that are sent again are left out: they remain members.
    """
    rows = connection.execute(_RANGE_OUTCOMES, (run, after))
    return [
        RangeOutcome(Operation(operation), first_uid, uid_count, bool(is_accepted))
        for operation, first_uid, uid_count, is_accepted in rows
    ]


def mark_folded(
    connection: sqlite3.Connection, run: Unfolded, generation: int | None, *, is_closed: bool
) -> None:
    """Record that the snapshot, as of this generation, includes a run's attempts so far."""
    connection.execute("UPDATE followed SET attempt = ? WHERE run = ?", (run.last_attempt, run.run))
    connection.execute(
        "UPDATE plan SET generation = ?, is_closed = is_closed OR ? WHERE run = ?",
        (generation, is_closed, run.run),
    )


def last_sends(connection: sqlite3.Connection, key: CohortKey) -> list[LastSend]:
    """Return each run that sent anything to the cohort, with its last request."""
    rows = connection.execute(
        "SELECT run, sent_boot_id, sent_boot_ns, sent_utc_ns, EXISTS "
        "(SELECT 1 FROM followed WHERE followed.run = run.run) "
        "FROM run JOIN attempt USING (run) WHERE partner = ? AND cohort_id = ? "
        "AND id = (SELECT id FROM attempt AS a WHERE a.run = run.run "
        "AND a.sent_utc_ns IS NOT NULL ORDER BY id DESC LIMIT 1)",
        (key.partner, key.cohort_id),
    )
    return [LastSend(run, Stamp(*stamp), bool(is_followed)) for run, *stamp, is_followed in rows]


def has_resent(connection: sqlite3.Connection, run: int) -> bool:
    """Return whether a run has sent uids that were members already."""
    found = connection.execute(
        "SELECT 1 FROM batch WHERE run = ? AND leg = 'resend' LIMIT 1", (run,)
    ).fetchone()
    return found is not None


_RESTORED_FROM = """
WITH mine AS (
  SELECT generation, run, origin FROM generation
  WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3
)
SELECT backup_utc_ns FROM restored AS r
WHERE id = (SELECT max(id) FROM restored) AND EXISTS (SELECT 1 FROM mine WHERE origin = 'restore')
AND NOT EXISTS (
  SELECT 1 FROM mine
  WHERE generation > (SELECT max(generation) FROM mine WHERE origin = 'restore')
  AND (origin IN ('reconcile', 'import', 'assume-empty') OR run IN (SELECT run FROM plan))
)
"""


def restored_from(connection: sqlite3.Connection, key: CohortKey) -> int | None:
    """Return when the backup was made that a cohort's snapshot was restored from, in ns.

    None if it was not restored, or if a plan that was sent, or a complete list of the members, has
    replaced it since.
    """
    found: tuple[int] | None = connection.execute(_RESTORED_FROM, key.values).fetchone()
    return found and found[0]


_RUNS_WITH_UIDS = """
WITH oldest AS (
  SELECT min(last_attempt) AS attempt, min(run) AS run, max(generation) AS generation
  FROM generation WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 AND file IS NOT NULL
)
SELECT name,
  status = 'running'
  OR run.run = (SELECT max(run) FROM run JOIN plan USING (run)
                WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3)
  OR f.run IS NOT NULL AND (
    coalesce((SELECT max(id) FROM attempt AS a WHERE a.run = run.run), 0)
      > min(f.attempt, coalesce((SELECT attempt FROM oldest), 0))
    OR EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run)
      AND run.run >= (SELECT run FROM oldest)
    OR plan.run IS NULL AND status IN ('incomplete', 'refused', 'source_failed', 'failed')
      AND NOT EXISTS (SELECT 1 FROM run AS later JOIN attempt USING (run)
       WHERE later.partner = ?1 AND later.cohort_id = ?2 AND later.run > run.run)
    OR NOT is_closed AND plan.generation IS (SELECT generation FROM oldest)
  )
FROM run LEFT JOIN plan USING (run) LEFT JOIN followed AS f USING (run)
WHERE partner = ?1 AND cohort_id = ?2 AND coalesce(is_shadow, 0) = ?3
AND (action = 'mirror' OR f.run IS NOT NULL)
"""


def runs_with_uids(connection: sqlite3.Connection, key: CohortKey) -> list[RunUids]:
    """Return the runs that may have uids beside the ledger, and whether any of them is needed.

    They are needed to be folded, to verify all changes since the oldest snapshot, for queries, to
    be resumed or to be applied.
    """
    rows = connection.execute(_RUNS_WITH_UIDS, key.values)
    return [RunUids(name, bool(is_needed)) for name, is_needed in rows]


class SnapshotIndex(Store):
    """The snapshots of each cohort, and the runs that each includes."""

    current = in_transaction(current)
    generations = by_reader(generations)
    intend_to_make = in_transaction(intend_to_make)
    being_made = in_transaction(being_made)
    drop = in_transaction(drop)
    unfolded = in_transaction(unfolded)
    sent_since = by_reader(sent_since)
    range_outcomes = by_reader(range_outcomes)
    mark_folded = in_transaction(mark_folded)
    last_sends = by_reader(last_sends)
    has_resent = by_reader(has_resent)
    restored_from = by_reader(restored_from)
    runs_with_uids = by_reader(runs_with_uids)

    async def enter(
        self,
        key: CohortKey,
        generation: Generation,
        folds: Sequence[Unfolded] = (),
        *,
        knows_all: bool,
        stays_open: int | None = None,
    ) -> Generation:
        """Make a snapshot, whose file is on the disk, the current one; return it.

        If it `knows_all`, its `last_attempt` is the ledger's last one. It includes the runs
        `folds`; each plan among them is closed, except that of run `stays_open`.
        """

        def work(connection: sqlite3.Connection) -> Generation:
            entered = generation
            if knows_all:
                entered = replace(generation, last_attempt=last_attempt(connection))
            enter(connection, key, entered)
            for run in folds:
                is_closed = run.run != stays_open
                mark_folded(connection, run, generation.number, is_closed=is_closed)
            return entered

        return await self._execute(work)
