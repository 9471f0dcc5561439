"""The rows that a run read of its export, besides those that its batches record.

Each is a function on a connection, inside its caller's transaction.
"""

import sqlite3
from collections.abc import Sequence

from engine.ledger.records import NO_BATCH, RowsRead
from engine.ledger.sqlite import files
from engine.ledger.sqlite.batches import skip
from engine.payload.batch import UidlessRows, count_among
from engine.source.source_file import SourceFile


def enter_rows_without_uids(
    connection: sqlite3.Connection, run: int, rows: UidlessRows, *, is_complete: bool
) -> None:
    """Enter the counts of rows read so far that no batch records."""
    skip(connection, run, NO_BATCH, rows.skipped)
    blank, invalid = (count_among(rows.skipped, kind) for kind in ("blank", "invalid"))
    enter_rows_read(connection, run, RowsRead(rows.records, blank, invalid, is_complete))


def enter_rows_read(
    connection: sqlite3.Connection, run: int, rows: RowsRead, read: Sequence[SourceFile] = ()
) -> None:
    """Enter how much of an export was read before any batch was cut, and from which files."""
    connection.execute(
        "INSERT INTO reading (run, records, blank, invalid) VALUES (?, ?, ?, ?)",
        (run, rows.records, rows.blank, rows.invalid),
    )
    connection.execute("UPDATE run SET source_complete = ? WHERE run = ?", (rows.is_complete, run))
    files.set_uids(connection, run, read)


def forget_rows_read(connection: sqlite3.Connection, run: int) -> None:
    """Undo what `enter_rows_without_uids` has entered: the export is read again."""
    connection.execute("DELETE FROM reading WHERE run = ?", (run,))
    connection.execute("DELETE FROM skipped WHERE run = ? AND batch = ?", (run, NO_BATCH))
    connection.execute(
        "UPDATE run SET source_complete = EXISTS "
        "(SELECT 1 FROM batch WHERE batch.run = run.run AND is_last) WHERE run = ?",
        (run,),
    )
