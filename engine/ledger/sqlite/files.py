"""The files that a run read, as the ledger records them.

Each is a function on a connection, inside its caller's transaction.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from engine.source.source_file import SourceFile


def enter(connection: sqlite3.Connection, run: int, files: Sequence[SourceFile]) -> None:
    """Enter a run's files, or their present state when it resumes; the counts of uids stay.

    A run that an earlier version began has no files here, so the number of their uids is unknown.
    """
    known = dict(connection.execute("SELECT place, uids FROM file WHERE run = ?", (run,)))
    begun = connection.execute("SELECT 1 FROM batch WHERE run = ? LIMIT 1", (run,)).fetchone()
    connection.execute("DELETE FROM file WHERE run = ?", (run,))
    connection.executemany(
        "INSERT INTO file (run, place, name, bytes, written_utc_ns, uids) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (run, n, file.name, file.bytes, file.written_utc_ns, known.get(n, None if begun else 0))
            for n, file in enumerate(files)
        ],
    )


def add_uids(connection: sqlite3.Connection, run: int, uids: Mapping[str, int]) -> None:
    """Add the numbers of uids planned from each file, by its name, unless the run has a plan."""
    connection.executemany(
        "UPDATE file SET uids = uids + ? WHERE run = ? AND name = ? "
        "AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.run = file.run)",
        [(count, run, name) for name, count in uids.items()],
    )


def set_uids(connection: sqlite3.Connection, run: int, files: Sequence[SourceFile]) -> None:
    """Enter how many uids were read of each file."""
    connection.executemany(
        "UPDATE file SET uids = ? WHERE run = ? AND name = ?",
        [(file.uids, run, file.name) for file in files],
    )


def files_of(connection: sqlite3.Connection, run: str) -> list[SourceFile]:
    """Return the files of a run, by its name, in the order in which they are read."""
    rows = connection.execute(
        "SELECT file.name, bytes, written_utc_ns, uids FROM file JOIN run USING (run) "
        "WHERE run.name = ? ORDER BY place",
        (run,),
    )
    return [SourceFile(*row) for row in rows]
