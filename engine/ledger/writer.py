"""The one thread that writes to a ledger: it gathers what is asked meanwhile into one commit."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from engine.ledger.schema import UNREADABLE, translate

T = TypeVar("T")

_Job = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]


class LedgerWriter:
    """Runs functions on a ledger's connection, in the order given, each durable when it returns.

    Belongs to the event loop it is made in. Functions that wait while a commit is under way share
    the next one: a commit costs an fsync however much it holds.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
        self._thread.start()

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a transaction; return its value once that is on the disk.

        Raises what `function` raises, and a `CohortSyncError` where the disk or the file fails;
        in either case nothing of that transaction remains. `RuntimeError` after `close`.
        """
        if self._is_closed:
            raise RuntimeError("the ledger has been closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((function, future))
        return await future

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        self._is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            is_last = False
            try:
                while (more := self._jobs.get_nowait()) is not None:
                    jobs.append(more)
                is_last = True
            except Empty:
                pass
            self._commit(jobs)
            if is_last:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            values = [function(self._connection) for function, _ in jobs]
            self._connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - handed to those who wait, whatever it is
            # A disk that fails may take no rollback; SQLite undoes it when it opens the file.
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            failure = translate(error, self._path) if isinstance(error, UNREADABLE) else error
            self._reply([(future, None, failure) for _, future in jobs])
        else:
            self._reply(
                [(future, value, None) for (_, future), value in zip(jobs, values, strict=True)]
            )

    def _reply(self, replies: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        self._loop.call_soon_threadsafe(_resolve, replies)


def _resolve(replies: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, failure in replies:
        if future.done():  # Whoever waited was cancelled; the write stands all the same.
            continue
        if failure is None:
            future.set_result(value)
        else:
            future.set_exception(failure)
