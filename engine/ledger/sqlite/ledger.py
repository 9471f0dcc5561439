"""A workspace's ledger, open for writing: its stores, its file, and its end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.clock import Clock
from engine.errors import CohortSyncError, StateGoneError
from engine.ledger.sqlite import recovery
from engine.ledger.sqlite.access import readable_files, refuse_lost
from engine.ledger.sqlite.failures import translate
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.plans import PlanStore
from engine.ledger.sqlite.rescue import copy_beside, put_back
from engine.ledger.sqlite.runs import RunStore
from engine.ledger.sqlite.schema import NONSENSE, check_content, open_ledger
from engine.ledger.sqlite.send_log import SendLog
from engine.ledger.sqlite.snapshot_index import SnapshotIndex
from engine.ledger.sqlite.writer import LedgerWriter
from engine.ledger.state_folder import (
    close_to_others,
    is_still,
    make_folder,
    sole_writer,
    state_gone,
)
from engine.storage.paths import LEDGER_NAME

if TYPE_CHECKING:
    from engine.ledger.run_records import RunRecord
    from engine.source.source_file import SourceFile


class Ledger:
    """One workspace's record, written by this process alone. Use it within its event loop."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, clock: Clock, writer: LedgerWriter
    ) -> None:
        self._connection = connection
        self._found = path.stat()
        self._writer = writer
        self.write = writer.write
        """Runs a function on the connection, in a transaction; see `LedgerWriter.write`."""
        self._clock = clock
        self.path = path
        self.runs = RunStore(self.write, clock)
        self.plans = PlanStore(self.write, clock)
        self.snapshots = SnapshotIndex(self.write, clock)
        self.sends = SendLog(self.write, clock, lambda: self.gone)

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open or create the file; `LedgerError` says why it cannot be used."""
        connection = open_ledger(path, now_utc_ns=clock.stamp().utc_ns)
        return cls(connection, path, clock, LedgerWriter(connection, path))

    async def close(self) -> None:
        """Finish all writes and close the file; one that was removed is written anew."""
        copy = None
        if self.gone is not None:
            await self._writer.write(lambda _: None)  # Nothing else is under way any more.
            copy = await asyncio.to_thread(copy_beside, self._connection, self.path)
        await self._writer.close()
        if copy is not None:
            put_back(copy, self.path)

    @property
    def gone(self) -> StateGoneError | None:
        """An error if the file was removed or replaced while it was in use; else None."""
        return None if is_still(self.path, self._found) else state_gone(self.path.parent)

    async def run_record(self, name: str) -> "tuple[RunRecord, list[SourceFile]]":
        """Return what a run's accounts are folded from, and the files that it read.

        They are read by the connection that wrote them, so that they can be read where the state
        folder was removed. Raises as `RunHistory.record` does.
        """

        def work(connection: sqlite3.Connection) -> "tuple[RunRecord, list[SourceFile]]":
            history = RunHistory(connection)
            return history.record(name), history.files(name)

        return await self.write(work)

    async def recover(self) -> None:
        """Put in order what a process that died has left behind; the caller holds the lock.

        An intent without an outcome may have been sent, and may have been applied. It counts as
        sent now, which is the latest that it can have been.
        """
        now = self._clock.stamp()
        await self.write(lambda connection: recovery.recover(connection, now))

    async def refuse_lost(self) -> None:
        """Raise `LedgerError` if this ledger was made in the place of one that was lost."""
        await self.write(lambda connection: refuse_lost(connection, self.path))

    async def check(self) -> None:
        """Raise `LedgerError` unless the whole file is undamaged."""
        await self.write(lambda connection: check_content(connection, self.path))

    async def damage_behind(self, error: BaseException) -> CohortSyncError | None:
        """Return the damage to the file that an error may come from; None if there is none.

        Of a large file, not all is checked when it is opened.
        """
        if not isinstance(error, NONSENSE):
            return None
        try:
            await self.check()
        except CohortSyncError as damage:
            return damage
        return None

    def outside_cause(self, error: Exception) -> CohortSyncError | None:
        """Name an error of SQLite's that comes from outside the program; None for any other."""
        if not isinstance(error, sqlite3.Error):
            return None
        translated = translate(error, self.path)
        return translated if isinstance(translated, CohortSyncError) else None


@asynccontextmanager
async def sole_ledger(
    folder: Path,
    clock: Clock,
    wait_seconds: float = 0.0,
    is_stopped: Callable[[], bool] = lambda: False,
    waiting: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Ledger]:
    """Hold the lock and the ledger in `folder`, which is made, put in order; see `sole_writer`."""
    make_folder(folder)
    close_to_others(folder)
    with readable_files(folder):
        async with sole_writer(folder, wait_seconds, is_stopped, waiting):
            ledger = Ledger.open(folder / LEDGER_NAME, clock)
            try:
                await ledger.recover()
                yield ledger
            except Exception as error:
                if damage := await ledger.damage_behind(error):
                    raise damage from error
                raise
            finally:
                # All that was written is durable. What fails here must not hide how a run ended.
                with suppress(Exception):
                    await ledger.close()
