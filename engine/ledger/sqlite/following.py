"""What snapshots follow: the runs, and what became of their batches.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.clock import Stamp
from engine.ledger.snapshot_records import LastSend, RangeOutcome, RunUids, Unfolded
from engine.model.cohort import CohortKey, Operation


def follow(connection: sqlite3.Connection, run: int) -> None:
    """Let the cohort's snapshot follow what becomes of a run's batches."""
    connection.execute("INSERT INTO followed (run) VALUES (?) ON CONFLICT DO NOTHING", (run,))


def is_followed(connection: sqlite3.Connection, run: int) -> bool:
    """Say whether the cohort's snapshot follows what becomes of a run's batches."""
    found = connection.execute("SELECT 1 FROM followed WHERE run = ?", (run,)).fetchone()
    return found is not None


def is_unrecorded(connection: sqlite3.Connection, run: int) -> bool:
    """Say whether a run has cut batches whose uids are not kept for a snapshot."""
    found = connection.execute(
        "SELECT 1 FROM batch WHERE run = ?1 AND NOT EXISTS "
        "(SELECT 1 FROM followed WHERE run = ?1) LIMIT 1",
        (run,),
    ).fetchone()
    return found is not None


_LAST_ATTEMPT = "(SELECT coalesce(max(id), 0) FROM attempt AS a WHERE a.run = run.run)"


def unfolded(connection: sqlite3.Connection, key: CohortKey) -> list[Unfolded]:
    """Return the runs that the snapshot has not caught up with, in their order."""
    if key.is_shadow:
        return []
    rows = connection.execute(
        f"SELECT run, name, {_LAST_ATTEMPT} AS last, attempt FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
        "WHERE partner = ? AND cohort_id = ? AND last > attempt ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [Unfolded(*row) for row in rows]


def sent_since(connection: sqlite3.Connection, key: CohortKey, attempt: int) -> list[Unfolded]:
    """Return the followed runs that have sent anything after an attempt, in their order."""
    rows = connection.execute(
        f"SELECT run, name, {_LAST_ATTEMPT} AS last, attempt FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
        "WHERE partner = ? AND cohort_id = ? AND last > ? ORDER BY run",
        (key.partner, key.cohort_id, attempt),
    )
    return [] if key.is_shadow else [Unfolded(*row) for row in rows]


def last_attempt(connection: sqlite3.Connection) -> int:
    """Return the number of the last attempt of all."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    return int(last)


# A part of a batch that was split has had its parent's attempts, too.
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

    They are disjoint. What is sent again is not among them: who was in stays in.
    """
    rows = connection.execute(_RANGE_OUTCOMES, (run, after))
    return [
        RangeOutcome(Operation(operation), first_uid, uid_count, bool(is_accepted))
        for operation, first_uid, uid_count, is_accepted in rows
    ]


def note_folded(
    connection: sqlite3.Connection, run: Unfolded, generation: int | None, *, is_closed: bool
) -> None:
    """Write down that the snapshot, by this generation, knows of a run's attempts so far."""
    connection.execute("UPDATE followed SET attempt = ? WHERE run = ?", (run.last_attempt, run.run))
    connection.execute(
        "UPDATE plan SET generation = ?, is_closed = is_closed OR ? WHERE run = ?",
        (generation, is_closed, run.run),
    )


def touches(connection: sqlite3.Connection, key: CohortKey) -> list[LastSend]:
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
    """Say whether members that were in already were among what a run has sent."""
    found = connection.execute(
        "SELECT 1 FROM batch WHERE run = ? AND leg = 'resend' LIMIT 1", (run,)
    ).fetchone()
    return found is not None


_KEPT = """
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


def kept(connection: sqlite3.Connection, key: CohortKey) -> list[RunUids]:
    """Return the runs that may have uids beside the ledger, and whether any of them is needed.

    To be folded, to be trusted from the oldest snapshot on, to be asked after, gone on with or
    applied.
    """
    rows = connection.execute(_KEPT, key.values)
    return [RunUids(name, bool(is_needed)) for name, is_needed in rows]


def is_mirrored(connection: sqlite3.Connection, key: CohortKey) -> bool:
    """Say whether a snapshot follows what is sent to the cohort, or is about to."""
    found = connection.execute(
        "SELECT 1 FROM generation WHERE partner = ?1 AND cohort_id = ?2 AND NOT is_shadow "
        "UNION ALL SELECT 1 FROM followed JOIN run USING (run) JOIN attempt USING (run) "
        "WHERE partner = ?1 AND cohort_id = ?2 LIMIT 1",
        (key.partner, key.cohort_id),
    ).fetchone()
    return found is not None


def last_name(connection: sqlite3.Connection, key: CohortKey) -> str | None:
    """Return the name by which something was last sent to the cohort; None if nothing was."""
    found: tuple[str] | None = connection.execute(
        "SELECT cohort_name FROM run LEFT JOIN plan USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND coalesce(is_shadow, 0) = ? "
        "AND (status IN ('finished', 'shadow') OR EXISTS (SELECT 1 FROM batch AS b "
        "WHERE b.run = run.run AND (state = 'accepted' OR may_have_been_applied OR EXISTS "
        "(SELECT 1 FROM attempt AS a WHERE a.run = b.run AND a.batch = b.batch "
        "AND outcome IS NULL)))) ORDER BY run DESC LIMIT 1",
        key.values,
    ).fetchone()
    return found and found[0]


def pushed_behind(connection: sqlite3.Connection, key: CohortKey) -> list[str]:
    """Return the runs that sent something to the cohort which no snapshot follows, or has taken.

    A list that was adopted or reconciled later is taken for what they sent.
    """
    rows = connection.execute(
        "SELECT name FROM run WHERE partner = ?1 AND cohort_id = ?2 "
        "AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > "
        "coalesce((SELECT max(last_attempt) FROM generation WHERE partner = ?1 "
        "AND cohort_id = ?2 AND NOT is_shadow AND origin IN ('adopt', 'reconcile')), 0)) "
        "AND run NOT IN (SELECT run FROM followed) ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [name for (name,) in rows]


def keep_lifts(
    connection: sqlite3.Connection, run: int, lifts: Sequence[Mapping[str, Any]]
) -> None:
    """Enter which guards were lifted for a push, by whom and why."""
    connection.execute("UPDATE run SET lifted = ? WHERE run = ?", (json.dumps(lifts), run))


def lifts_of(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """Return which guards were lifted for a push, by the name of its run."""
    (kept,) = connection.execute("SELECT lifted FROM run WHERE name = ?", (run,)).fetchone()
    lifts: list[dict[str, Any]] = json.loads(kept)
    return lifts
