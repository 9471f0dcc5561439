"""A connection to a ledger that only reads: its reads neither delay writes nor wait for them."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.ledger.sqlite.access import connect_to_read
from engine.ledger.sqlite.schema import failure_of

T = TypeVar("T")

_CLOSED = "the ledger has been closed"
_INTERRUPT_SECONDS = 0.01
"""How long a connection that is being closed waits between two interruptions of its query."""


class ReadConnection:
    """Runs functions that only read, one at a time, in a thread of its own. Fulfils `Execute`.

    Callers that wait do not occupy the threads of the event loop, which also resolve host names.
    Each sees what was committed before it begins. A cancelled one still runs to its end.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection | None = None) -> None:
        """Use `connection`, which its opener closes, or open one at the first use."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, "ledger reads")
        self._lock = threading.Lock()
        self._connection = connection
        self._is_own = connection is None
        self._is_closed = False

    async def __call__(
        self,
        function: Callable[[sqlite3.Connection], T],
        max_wait_seconds: float = 0.0,  # noqa: ARG002 - required by `Execute`: a read commits nothing
    ) -> T:
        """Return what the function returns; raises as `LedgerWriter.write` does."""
        if self._is_closed:
            raise RuntimeError(_CLOSED)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._read, function)

    def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._is_closed:
                raise RuntimeError(_CLOSED)
            if self._connection is None:
                self._connection = connect_to_read(self._path)
            try:
                return function(self._connection)
            except Exception as error:
                failure = failure_of(error, self._connection, self._path)
                if failure is error:
                    raise
                raise failure from error

    def close(self) -> None:
        """Interrupt the read under way, if any, and close the connection that was opened here."""
        self._is_closed = True
        # An interruption ends the current statement, but not one that begins a moment later.
        while not self._lock.acquire(timeout=_INTERRUPT_SECONDS):
            if self._connection is not None:
                self._connection.interrupt()
        try:
            if self._is_own and self._connection is not None:
                self._connection.close()
        finally:
            self._lock.release()
            self._thread.shutdown()  # The reads that still wait end at once, with an error.
