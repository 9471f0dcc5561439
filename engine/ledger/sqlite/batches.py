"""The batches of a run: how each was cut, and its outcome.

Each is a function on a connection, inside its caller's transaction.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple

from engine.ledger.records import Division, OpenBatch, Registration, Settlement
from engine.ledger.sqlite import files
from engine.model.status import BatchState
from engine.payload.batch import KnownBatch, SkippedRows

_ROOTS = """
SELECT batch, uid_count, records_through, digest, is_last,
       state = 'open' OR state = 'split' AND EXISTS (
         SELECT 1 FROM batch AS part WHERE part.run = root.run AND part.state = 'open'
         AND part.first_uid >= root.first_uid
         AND part.first_uid < root.first_uid + root.uid_count
       )
FROM batch AS root WHERE run = ? AND parent IS NULL ORDER BY first_uid
"""


def known_batches(connection: sqlite3.Connection, run: int) -> list[KnownBatch]:
    """Return the batches cut so far, in the order of the export."""
    rows = connection.execute(_ROOTS, (run,))
    return [
        KnownBatch(*(*columns, bool(is_last), bool(is_open))) for *columns, is_last, is_open in rows
    ]


def open_batches(connection: sqlite3.Connection, run: int) -> list[OpenBatch]:
    """Return the batches that are neither accepted nor rejected, in export order."""
    rows = connection.execute(
        "SELECT batch, first_uid, uid_count, "
        "(SELECT count(*) FROM attempt WHERE run = b.run AND batch = b.batch), isolated "
        "FROM batch AS b WHERE run = ? AND state = 'open' ORDER BY first_uid",
        (run,),
    )
    return [OpenBatch(*(*columns, bool(isolated))) for *columns, isolated in rows]


def uids_settled(connection: sqlite3.Connection, run: int) -> tuple[int, int]:
    """Return how many uids of a run are accepted, and how many rejected."""
    found: tuple[int, int] = connection.execute(
        "SELECT coalesce(sum(iif(state = 'accepted', uid_count, 0)), 0), "
        "coalesce(sum(iif(state = 'rejected', uid_count, 0)), 0) FROM batch WHERE run = ?",
        (run,),
    ).fetchone()
    return found


def register(connection: sqlite3.Connection, run: int, batches: Sequence[Registration]) -> None:
    """Enter batches as they were cut, with the rows that belong to them, unless already entered."""
    for batch in batches:
        entered = connection.execute(
            "INSERT INTO batch (run, batch, leg, first_uid, uid_count, blank, invalid, "
            "records_through, is_last, payload_bytes, digest, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open') ON CONFLICT DO NOTHING",
            (
                run,
                batch.number,
                batch.operation.value,
                batch.first_uid,
                batch.uid_count,
                batch.blank,
                batch.invalid,
                batch.records_through,
                batch.is_last,
                batch.payload_bytes,
                batch.digest,
            ),
        ).rowcount
        if not entered:
            continue
        skip(connection, run, batch.number, batch.skipped)
        files.add_uids(connection, run, batch.file_uids)
        if batch.is_last:
            connection.execute("UPDATE run SET source_complete = 1 WHERE run = ?", (run,))


def skip(
    connection: sqlite3.Connection, run: int, number: int, skipped: Sequence[SkippedRows]
) -> None:
    """Enter rows that plan no uid, and the batch that they belong to.

    The excluded rows of a batch and file are one entry with their number, at the first of them.
    """
    entries: dict[tuple[str, int, str], int] = {}
    first_excluded: dict[str, int] = {}
    for file, rows in ((each.file, each.rows) for each in skipped):
        is_excluded = rows.kind == "excluded"
        first = first_excluded.setdefault(file, rows.record) if is_excluded else rows.record
        entry = file, first, rows.reason
        entries[entry] = entries.get(entry, 0) + rows.count
    connection.executemany(
        "INSERT INTO skipped (run, batch, file, record, reason, count) VALUES (?, ?, ?, ?, ?, ?)",
        [(run, number, *entry, count) for entry, count in entries.items()],
    )


def apply(
    connection: sqlite3.Connection, run: int, number: int, change: Settlement | Division | None
) -> None:
    """Enter the outcome of a batch."""
    match change:
        case None:
            return
        case Settlement(state, reason, rejected):
            connection.execute(
                "UPDATE batch SET state = ?, reason = ? WHERE run = ? AND batch = ?",
                (_stored(state), reason, run, number),
            )
            if rejected is not None:
                connection.execute(
                    "INSERT INTO rejected (run, batch, file, record, uid, reason, request_id) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (run, number, *astuple(rejected)),
                )
        case Division(parts, isolated, reason):
            connection.execute(
                "UPDATE batch SET state = 'split', reason = ? WHERE run = ? AND batch = ?",
                (reason, run, number),
            )
            connection.executemany(
                "INSERT INTO batch (run, batch, parent, leg, first_uid, uid_count, blank, "
                "invalid, is_last, payload_bytes, state, may_have_been_applied, isolated) "
                "SELECT run, ?, batch, leg, ?, ?, 0, 0, 0, ?, 'open', may_have_been_applied, ? "
                "FROM batch WHERE run = ? AND batch = ?",
                [
                    (p.number, p.first_uid, p.uid_count, p.payload_bytes, isolated, run, number)
                    for p in parts
                ],
            )


def _stored(state: BatchState) -> str:
    # Whether an open batch is pending or unconfirmed follows from what may have been applied.
    return state.value if state in {BatchState.ACCEPTED, BatchState.REJECTED} else "open"
