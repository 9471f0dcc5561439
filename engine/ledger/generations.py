"""The snapshots that were made, as the ledger knows them.

Each is a function on a connection, inside its caller's transaction.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from engine.ledger.records import CohortKey


@dataclass(frozen=True, slots=True)
class Generation:
    """A snapshot as the ledger keeps it."""

    number: int
    run: int | None
    """The run that led to it; None if a command brought it from elsewhere."""
    file: str | None
    """Its name in the folder of snapshots; None once it has been dropped."""
    digest: bytes
    members: int
    unknown: int
    out: int
    origin: str
    made_utc_ns: int
    last_attempt: int
    """The last attempt of the ledger that it knows of."""


def current(connection: sqlite3.Connection, key: CohortKey) -> Generation | None:
    """Return the snapshot that counts; None if the cohort was never mirrored."""
    return next(iter(generations(connection, key)), None)


def generations(connection: sqlite3.Connection, key: CohortKey) -> list[Generation]:
    """Return every snapshot there was, the latest first."""
    rows = connection.execute(
        "SELECT generation, run, file, digest, members, unknown, out, origin, made_utc_ns, "
        "last_attempt "
        "FROM generation WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "ORDER BY generation DESC",
        key.values,
    )
    return [Generation(*row) for row in rows]


def enter(connection: sqlite3.Connection, key: CohortKey, generation: Generation) -> None:
    """Make a snapshot, whose file is on the disk, the one that counts."""
    connection.execute(
        "INSERT INTO generation (partner, cohort_id, is_shadow, generation, run, file, digest, "
        "members, unknown, out, origin, made_utc_ns, last_attempt) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *key.values,
            generation.number,
            generation.run,
            generation.file,
            generation.digest,
            generation.members,
            generation.unknown,
            generation.out,
            generation.origin,
            generation.made_utc_ns,
            generation.last_attempt,
        ),
    )


def drop(connection: sqlite3.Connection, key: CohortKey, numbers: Sequence[int]) -> list[str]:
    """Write down that these snapshots' files are no longer kept.

    Returns the names of the runs whose plans none of the snapshots left can need.
    """
    connection.executemany(
        "UPDATE generation SET file = NULL WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "AND generation = ?",
        [(*key.values, number) for number in numbers],
    )
    rows = connection.execute(
        "SELECT name FROM run JOIN followed USING (run) LEFT JOIN plan USING (run) "
        "WHERE partner = ?1 AND cohort_id = ?2 AND coalesce(is_shadow, 0) = ?3 "
        "AND run < (SELECT min(run) FROM generation "
        "WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 AND file IS NOT NULL)",
        key.values,
    )
    return [name for (name,) in rows]
