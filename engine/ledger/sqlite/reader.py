"""Reads of a ledger, on separate connections, while another process may write to it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from engine.clock import Clock, SystemClock
from engine.errors import LedgerError
from engine.ledger.sqlite.access import file_size, readable_files, refuse_emptied, refuse_lost
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.period import PeriodHistory
from engine.ledger.sqlite.plans import PlanStore
from engine.ledger.sqlite.read_connection import ReadConnection
from engine.ledger.sqlite.runs import RunStore
from engine.ledger.sqlite.schema import failure_of, is_older, open_blank, open_for_reading
from engine.ledger.sqlite.snapshot_index import SnapshotIndex
from engine.ledger.sqlite.uid_history import UidHistory
from engine.storage.paths import LEDGER_NAME


@contextmanager
def reading(
    path: Path, *, is_verified: bool = False, is_whole: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open a ledger to read from, and close it; see `open_for_reading`.

    If damage to the file caused the block's error, the damage is raised in its place.
    """
    connection = open_for_reading(path, is_verified=is_verified, is_whole=is_whole)
    with closing(connection):
        try:
            with readable_files(path.parent):
                yield connection
        except Exception as error:
            failure = failure_of(error, connection, path)
            if failure is error:
                raise
            raise failure from error


class LedgerReader:
    """A ledger that is only read, on its own connection and, in an event loop, in a thread.

    It waits for no write, and no write waits for it: SQLite's log gives each read the ledger as of
    the read's start. A ledger of an older version is presented as one of this version.

    `history`, `period` and `uids` block; in an event loop, a function given to `read` calls them.
    `runs`, `plans` and `snapshots` are the stores that a writer has too: their methods that write
    raise SQLite's error.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
        self._connection = connection
        self._path = path
        self.read = ReadConnection(path, connection)
        """Runs a function on the connection in a thread, one after another."""
        self.close = self.read.close
        """Interrupts the current read; the opener closes the connection."""
        self.history = RunHistory(connection)
        self.period = PeriodHistory(connection)
        self.uids = UidHistory(connection)
        self.runs = RunStore(self.read, clock)
        self.plans = PlanStore(self.read, clock)
        self.snapshots = SnapshotIndex(self.read, clock)
        self.is_blank = False
        """Whether there was no ledger when this was opened."""

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        clock: Clock | None = None,
        *,
        is_verified: bool = False,
        is_whole: bool = False,
    ) -> Iterator[Self]:
        """Open a ledger that may be in use, for the block; it is not changed.

        With `is_whole` the whole file is checked; otherwise, of a large file, only the tables that
        summarize the others are. Nothing is checked if a writer of this process has verified the
        file already. Raises `LedgerError` for a file that cannot be read, is corrupt, emptied, or
        newer than this program, also if the block detects that.
        """
        with reading(path, is_verified=is_verified, is_whole=is_whole) as connection:
            reader = cls(connection, path, clock or SystemClock())
            try:
                yield reader
            finally:
                reader.close()

    def refuse_lost(self) -> None:
        """Raise `LedgerError` if the ledger was created in the place of one that was lost."""
        try:
            refuse_lost(self._connection, self._path)
        except LedgerError:
            if not self.is_blank or not file_size(self._path):
                raise
            with LedgerReader.open(self._path) as made:  # By a run that has begun since.
                made.refuse_lost()

    @property
    def is_older(self) -> bool:
        """Whether the file is of an older version, which the next writer migrates."""
        return is_older(self._connection)


@contextmanager
def read_ledger(folder: Path, clock: Clock) -> Iterator[LedgerReader]:
    """Yield the ledger in a workspace's folder, or an empty one if there is none.

    Raises `LedgerError` for a ledger that is lost or cannot be read.
    """
    path = folder / LEDGER_NAME
    refuse_emptied(path)
    if file_size(path):
        with LedgerReader.open(path, clock) as reader:
            yield reader
        return
    with closing(open_blank()) as blank, closing(LedgerReader(blank, path, clock)) as reader:
        reader.is_blank = True
        yield reader
