"""The snapshots that were made, as the ledger knows them.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.clock import Stamp
from engine.ledger.snapshot_records import Generation
from engine.model.cohort import CohortKey


def current(connection: sqlite3.Connection, key: CohortKey) -> Generation | None:
    """Return the snapshot that counts; None if the cohort was never mirrored."""
    return next(iter(generations(connection, key)), None)


def generations(connection: sqlite3.Connection, key: CohortKey) -> list[Generation]:
    """Return every snapshot there was, the latest first."""
    rows = connection.execute(
        "SELECT generation, run, file, digest, members, unknown, out, origin, made_boot_id, "
        "made_boot_ns, made_utc_ns, last_attempt, lifted "
        "FROM generation WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "ORDER BY generation DESC",
        key.values,
    )
    return [_generation(*row) for row in rows]


def _generation(*row: Any) -> Generation:  # noqa: ANN401 - columns, as `generations` asks for them
    number, run, file, digest, members, unknown, out, origin, *made, last_attempt, lifted = row
    return Generation(
        *(number, run, file, digest, members, unknown, out, origin, Stamp(*made), last_attempt),
        lifted=json.loads(lifted),
    )


def intend(connection: sqlite3.Connection, key: CohortKey, number: int) -> None:
    """Write down that a snapshot's file is about to be made."""
    connection.execute(
        "INSERT INTO making (partner, cohort_id, is_shadow, generation) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET generation = excluded.generation",
        (*key.values, number),
    )


def intended(connection: sqlite3.Connection, key: CohortKey) -> int | None:
    """Return the number of a snapshot whose maker has not come to name it; None if all did."""
    found: tuple[int] | None = connection.execute(
        "SELECT generation FROM making WHERE partner = ? AND cohort_id = ? AND is_shadow = ?",
        key.values,
    ).fetchone()
    return found and found[0]


def enter(connection: sqlite3.Connection, key: CohortKey, generation: Generation) -> None:
    """Make a snapshot, whose file is on the disk, the one that counts."""
    connection.execute(
        "DELETE FROM making WHERE partner = ? AND cohort_id = ? AND is_shadow = ?", key.values
    )
    connection.execute(
        "INSERT INTO generation (partner, cohort_id, is_shadow, generation, run, file, digest, "
        "members, unknown, out, origin, made_boot_id, made_boot_ns, made_utc_ns, last_attempt, "
        "lifted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            *(generation.made.boot_id, generation.made.boot_ns, generation.made.utc_ns),
            generation.last_attempt,
            json.dumps(list(generation.lifted)),
        ),
    )


def drop(connection: sqlite3.Connection, key: CohortKey, numbers: Sequence[int]) -> None:
    """Write down that these snapshots' files are no longer kept."""
    connection.executemany(
        "UPDATE generation SET file = NULL WHERE partner = ? AND cohort_id = ? AND is_shadow = ? "
        "AND generation = ?",
        [(*key.values, number) for number in numbers],
    )
