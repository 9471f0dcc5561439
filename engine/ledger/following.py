"""What snapshots follow: the runs, and what became of their batches.

Each is a function on a connection, inside its caller's transaction.
"""

import sqlite3
from dataclasses import dataclass

from engine.clock import Stamp
from engine.cohort import Leg
from engine.ledger.records import CohortKey


@dataclass(frozen=True, slots=True)
class Fate:
    """Places of a leg that follow each other, and what may have become of their uids."""

    leg: Leg
    first_uid: int
    uid_count: int
    is_accepted: bool
    """Accepted; otherwise it may have been applied, and nobody knows."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A run whose attempts the snapshot does not know of yet."""

    run: int
    name: str
    last_attempt: int


@dataclass(frozen=True, slots=True)
class Touch:
    """A run that sent something to the cohort, and when it did so last."""

    run: int
    sent: Stamp
    has_resent: bool
    """Whether members that were in already were among it."""


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
        f"SELECT run, name, {_LAST_ATTEMPT} AS last FROM run JOIN followed USING (run) "  # noqa: S608 - our own words
        "WHERE partner = ? AND cohort_id = ? AND last > attempt ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [Unfolded(*row) for row in rows]


def sent_since(connection: sqlite3.Connection, key: CohortKey, attempt: int) -> list[Unfolded]:
    """Return the followed runs that have sent anything after an attempt, in their order."""
    rows = connection.execute(
        "SELECT run, name, max(id) FROM run JOIN followed USING (run) "
        "JOIN attempt AS a USING (run) WHERE partner = ? AND cohort_id = ? "
        "GROUP BY run HAVING max(id) > ? ORDER BY run",
        (key.partner, key.cohort_id, attempt),
    )
    return [] if key.is_shadow else [Unfolded(*row) for row in rows]


def last_attempt(connection: sqlite3.Connection) -> int:
    """Return the number of the last attempt of all."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
    return int(last)


def fates(connection: sqlite3.Connection, run: int) -> list[Fate]:
    """Return all of a run's places that may have changed the cohort, disjoint.

    What is sent again is not among them: who was in stays in.
    """
    rows = connection.execute(
        "SELECT leg, first_uid, uid_count, state = 'accepted' FROM batch AS b WHERE run = ? "
        "AND leg <> 'resend' AND (state = 'accepted' OR state <> 'split' "
        "AND (may_have_been_applied OR EXISTS (SELECT 1 FROM attempt AS a "
        "WHERE a.run = b.run AND a.batch = b.batch AND a.outcome IS NULL))) "
        "ORDER BY leg, first_uid",
        (run,),
    )
    return [
        Fate(Leg(leg), first_uid, uid_count, bool(is_accepted))
        for leg, first_uid, uid_count, is_accepted in rows
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


def touches(connection: sqlite3.Connection, key: CohortKey) -> list[Touch]:
    """Return each run that sent anything to the cohort, with its last request."""
    rows = connection.execute(
        "SELECT run, sent_boot_id, sent_boot_ns, sent_utc_ns, EXISTS "
        "(SELECT 1 FROM batch WHERE batch.run = run.run AND leg = 'resend') "
        "FROM run JOIN attempt USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND sent_utc_ns IS NOT NULL "
        "AND id = (SELECT max(id) FROM attempt AS a WHERE a.run = run.run "
        "AND a.sent_utc_ns IS NOT NULL)",
        (key.partner, key.cohort_id),
    )
    return [Touch(run, Stamp(*stamp), bool(has_resent)) for run, *stamp, has_resent in rows]


def pushed_before(connection: sqlite3.Connection, key: CohortKey) -> list[str]:
    """Return the runs that sent something to the cohort which no snapshot follows."""
    rows = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? "
        "AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run) "
        "AND run NOT IN (SELECT run FROM followed) ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [name for (name,) in rows]
