"""Reads of a ledger beside whoever writes to it: on connections of their own."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from engine.ledger.sqlite.access import readable_files
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.schema import failure_of, is_older, open_for_reading
from engine.ledger.sqlite.uid_history import UidHistory

T = TypeVar("T")

_INTERRUPT_SECONDS = 0.01
"""How long a reader that is closed waits between two interruptions of what it reads."""


@contextmanager
def reading(
    path: Path, *, is_verified: bool = False, is_whole: bool = False
) -> Iterator[sqlite3.Connection]:
    """Open a ledger to read from, and close it; see `open_for_reading`.

    Where what the block raises follows from damage to the file, the damage is raised in its place.
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
    """A ledger that is only read, on a connection and, in an event loop, a thread of its own.

    It waits for no write, and no write waits for it: SQLite's log shows each read the ledger as it
    was when the read began. One of an older version is shown as one of this version.

    `history` and `uids` block. In an event loop, `ask` calls them.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None = None) -> None:
        self._connection = connection
        self._path = path
        self._is_closed = False
        self.history = RunHistory(connection)
        self.uids = UidHistory(connection)

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, *, is_verified: bool = False, is_whole: bool = False
    ) -> Iterator[Self]:
        """Open a ledger that may be in use, for the block; nothing of it is changed.

        Of a large file only the tables that sum up the others are checked, unless the `is_whole`
        file is to be; of one that this process has verified already, as a writer does, nothing.
        Raises `LedgerError` for a file that cannot be read, is corrupt, emptied, or newer than
        this program, also where the block finds out.
        """
        with reading(path, is_verified=is_verified, is_whole=is_whole) as connection:
            reader = cls(connection, path)
            try:
                yield reader
            finally:
                reader.close()

    @property
    def is_older(self) -> bool:
        """Whether the file is of an older version, which the next writer migrates."""
        return is_older(self._connection)

    async def ask(self, question: Callable[[Self], T]) -> T:
        """Call `question` with this reader in the reader's own thread, and return its answer.

        Questions are answered one after another. One that is cancelled goes on until its end.
        Raises what `question` raises, and `LedgerError` where that follows from damage.
        """
        return await self.read(lambda _: question(self))

    async def read(
        self,
        function: Callable[[sqlite3.Connection], T],
        patience_seconds: float = 0.0,  # noqa: ARG002 - as a writer has it: a read commits nothing
    ) -> T:
        """Call a function that only reads in the reader's own thread; for stores of the ledger.

        One that writes raises SQLite's error.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._call, function)

    write = read
    """What a store calls that serves a reader and the writer."""

    def _call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._is_closed:
            raise RuntimeError("the ledger has been closed")
        try:
            return function(self._connection)
        except Exception as error:
            if self._path is None:
                raise
            failure = failure_of(error, self._connection, self._path)
            if failure is error:
                raise
            raise failure from error

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "ledger-reader")

    def close(self) -> None:
        """End what is being read, and its thread; whoever opened the connection closes it."""
        self._is_closed = True
        if "_thread" not in vars(self):
            return
        end = self._thread.submit(lambda: None)
        while not wait([end], _INTERRUPT_SECONDS).done:
            # It ends the statement under way, and not one that begins a moment later.
            self._connection.interrupt()
        self._thread.shutdown()
