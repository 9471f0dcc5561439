"""The one thread that writes to a ledger: it commits the jobs that wait together."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from engine.cancellation import await_to_end
from engine.ledger.sqlite.schema import failure_of

T = TypeVar("T")

_Job = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]


class LedgerWriter:
    """Runs functions on a ledger's connection, in the order given, each durable when it returns.

    Belongs to the event loop in which it is made. Functions that wait during a commit, or that are
    requested in one turn of the loop, share the next commit: each commit costs an fsync and two
    thread switches, whatever its size.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._asked: list[_Job] = []
        self._due = 0.0
        self._passing_on: asyncio.Handle | None = None
        self._jobs: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    async def write(
        self, function: Callable[[sqlite3.Connection], T], max_wait_seconds: float = 0.0
    ) -> T:
        """Run `function` in a transaction; return its value once that is on the disk.

        It may wait up to `max_wait_seconds` for another function to share its commit with.

        `function` changes only the ledger: it runs again if another one that shares its transaction
        fails. Raises what `function` raises, and a `CohortSyncError` if the disk or the file fails;
        in either case all its changes are undone. Raises `RuntimeError` after `close`. A caller
        that is cancelled still waits for the commit: its locks must not be released before that.
        """
        if self._is_closed:
            raise RuntimeError("the ledger has been closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._ask((function, future), max_wait_seconds)
        return await await_to_end(future)

    def _ask(self, job: _Job, max_wait_seconds: float) -> None:
        self._asked.append(job)
        due = self._loop.time() + max_wait_seconds
        if self._passing_on is not None:
            if self._due <= due:
                return
            self._passing_on.cancel()
        self._due = due
        self._passing_on = self._loop.call_later(max_wait_seconds, self._pass_on)

    def _pass_on(self) -> None:
        self._passing_on = None
        jobs, self._asked = self._asked, []
        self._jobs.put(jobs)

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        self._is_closed = True
        if self._passing_on is not None:
            self._passing_on.cancel()
            self._pass_on()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _work(self) -> None:
        while (jobs := self._jobs.get()) is not None:
            is_last = False
            try:
                while (more := self._jobs.get_nowait()) is not None:
                    jobs += more
                is_last = True
            except Empty:
                pass
            self._commit(jobs)
            if is_last:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        """Commit jobs together; if one fails, only that one fails, and the others run again.

        A savepoint for each job would cost each of them 1 to 3 microseconds (of 15).
        """
        while jobs:
            values: list[Any] = []
            is_begun = False
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                is_begun = True
                for function, _ in jobs:
                    values.append(function(self._connection))
                self._connection.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001 - handed to those who wait, whatever it is
                self._roll_back()
                failure = failure_of(error, self._connection, self._path)
                # An error of the file or of the commit itself fails all of them.
                is_own = is_begun and len(values) < len(jobs) and failure is error
                failed = [jobs.pop(len(values))] if is_own else jobs
                jobs = jobs if is_own else []
                self._reply([(future, None, failure) for _, future in failed])
            else:
                self._reply(
                    [(future, value, None) for (_, future), value in zip(jobs, values, strict=True)]
                )
                return

    def _roll_back(self) -> None:
        # A rollback may fail on a failing disk; SQLite then rolls back when it opens the file.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _reply(self, replies: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        self._loop.call_soon_threadsafe(_resolve, replies)


def _resolve(replies: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, failure in replies:
        if failure is None:
            future.set_result(value)
        else:
            future.set_exception(failure)
