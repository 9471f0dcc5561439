"""A workspace's ledger, open for writing: its stores, its file, and how it is closed."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.cancellation import await_to_end, run_in_thread
from engine.clock import Clock
from engine.errors import CohortSyncError, IncompleteError, LedgerError, StateGoneError
from engine.ledger.sqlite import recovery
from engine.ledger.sqlite.access import readable_files, refuse_lost, refuse_unfinished_restore
from engine.ledger.sqlite.failures import translate
from engine.ledger.sqlite.history import RunHistory
from engine.ledger.sqlite.notices import NoticeStore
from engine.ledger.sqlite.plans import PlanStore
from engine.ledger.sqlite.read_connection import ReadConnection
from engine.ledger.sqlite.rescue import copy_to_draft, put_back
from engine.ledger.sqlite.runs import RunStore
from engine.ledger.sqlite.schema import (
    DAMAGE_SYMPTOMS,
    check_file,
    is_current,
    open_ledger,
)
from engine.ledger.sqlite.send_log import SendLog
from engine.ledger.sqlite.snapshot_index import SnapshotIndex
from engine.ledger.sqlite.syncs import SyncStore
from engine.ledger.sqlite.writer import LedgerWriter
from engine.ledger.state_folder import (
    close_to_others,
    is_still,
    make_folder,
    state_gone,
)
from engine.model.cohort import CohortKey
from engine.storage.paths import LEDGER_NAME

if TYPE_CHECKING:
    from engine.ledger.run_records import LastRun, RunRecord
    from engine.source.source_file import SourceFile


class Ledger:
    """One workspace's ledger, open for writing. Use it within its event loop."""

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
        self._reads = ReadConnection(path)
        self.runs = RunStore(self.write, clock, self._reads)
        self.plans = PlanStore(self.write, clock, self._reads)
        self.snapshots = SnapshotIndex(self.write, clock, self._reads)
        self.syncs = SyncStore(self.write, clock)
        self.notices = NoticeStore(self.write, clock)
        self.sends = SendLog(self.write, clock, lambda: self.gone)

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Self:
        """Open or create the file, in a thread; raises `LedgerError` if it cannot be used.

        A cancellation is raised once the thread has ended: it may be migrating the file.
        """
        now_utc_ns = clock.stamp().utc_ns
        with ExitStack() as opened:

            def connect() -> sqlite3.Connection:
                return opened.enter_context(closing(open_ledger(path, now_utc_ns=now_utc_ns)))

            connection = await run_in_thread(connect)
            ledger = cls(connection, path, clock, LedgerWriter(connection, path))
            opened.pop_all()
        return ledger

    async def close(self) -> None:
        """Finish all writes and close the file; a removed file is written again.

        Raises nothing: all that was written is durable, and the run's result must not be hidden.
        """
        with suppress(Exception):
            await await_to_end(self._close())

    async def _close(self) -> None:
        copy = None
        try:
            await run_in_thread(self._reads.close)
            if self.gone is not None:
                await self._writer.write(lambda _: None)  # No other write is under way any more.
                copy = await run_in_thread(lambda: copy_to_draft(self._connection, self.path))
        finally:
            await self._writer.close()
        if copy is not None:
            put_back(copy, self.path)

    @property
    def gone(self) -> StateGoneError | None:
        """The error if the file was removed or replaced while it was in use; else None."""
        return None if is_still(self.path, self._found) else state_gone(self.path.parent)

    async def run_record(self, name: str) -> "tuple[RunRecord, list[SourceFile]]":
        """Return the records from which a run's accounts are computed, and the files that it read.

        If the state folder was removed, the connection that wrote them still reads them. Raises as
        `RunHistory.record` does.
        """

        def work(connection: sqlite3.Connection) -> "tuple[RunRecord, list[SourceFile]]":
            history = RunHistory(connection)
            return history.record(name), history.files(name)

        if self.gone is None:
            try:
                return await self._reads(work)
            except LedgerError:
                if self.gone is None:
                    raise
        return await self.write(work)

    async def last_run(self, key: CohortKey) -> "LastRun | None":
        """Return the last run of a cohort, without plans that were not sent."""
        return await self._reads(lambda connection: RunHistory(connection).last_run(key))

    async def interrupted_cohorts(self) -> list[CohortKey]:
        """Return the cohorts of runs that have not ended, whether or not a process works on them.

        None of the keys is a shadow's.
        """
        return await self._reads(recovery.interrupted_cohorts)

    async def recover(self, key: CohortKey | None = None) -> None:
        """End the runs of a cohort that no process works on; the caller holds the cohort's lock.

        Without a cohort it ends all runs: the caller must ensure that no process works on any. An
        attempt without an outcome may have been sent and applied; it counts as sent now.
        """
        now = self._clock.stamp()
        await self.write(lambda connection: recovery.recover(connection, key, now))

    async def settle_all(self) -> None:
        """Settle all requests without an outcome; the caller holds the sending lock."""
        now = self._clock.stamp()
        await self.write(lambda connection: recovery.settle_all(connection, now))

    async def store_missing_totals(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Store the totals of each closed run that has none, such as one whose process died.

        The count may take long for an old ledger; `is_stopped` ends it between two runs. No lock is
        needed, and no other process waits.
        """
        for run, execution in await self.runs.without_totals():
            if is_stopped():
                return
            totals = await self.runs.count_totals(run)
            await self.runs.store_totals(run, execution, totals)

    async def refuse_lost(self) -> None:
        """Raise `LedgerError` if this ledger was created in the place of one that was lost."""
        await self._reads(lambda connection: refuse_lost(connection, self.path))

    async def check(self) -> None:
        """Raise `LedgerError` unless the whole file is undamaged."""
        await asyncio.to_thread(check_file, self.path)

    async def damage_behind(self, error: BaseException) -> CohortSyncError | None:
        """Return the damage to the file that may have caused an error; None if there is none.

        A large file is not checked completely when it is opened.
        """
        if not isinstance(error, DAMAGE_SYMPTOMS) or self.gone is not None:
            return None
        try:
            await self.check()
        except LedgerError as damage:
            return damage
        except IncompleteError:  # It cannot be checked now.
            return None
        return None

    @asynccontextmanager
    async def naming_damage(self) -> AsyncIterator[None]:
        """Raise damage to the file in place of the block's error, if the damage caused it.

        An unreadable file of the state folder raises `LedgerError`, too.
        """
        try:
            with readable_files(self.path.parent):
                yield
        except Exception as error:
            if damage := await self.damage_behind(error):
                raise damage from error
            raise

    def outside_cause(self, error: Exception) -> CohortSyncError | None:
        """Translate an SQLite error with a cause outside the program; None for any other error."""
        if not isinstance(error, sqlite3.Error):
            return None
        translated = translate(error, self.path)
        return translated if isinstance(translated, CohortSyncError) else None


async def open_shared(folder: Path, clock: Clock, *, is_sole: bool) -> Ledger | None:
    """Open the ledger in a workspace's folder, which is created, beside other processes.

    Only the holder of the sending lock, which `is_sole`, creates a ledger or migrates it: a program
    of version 0.1 holds that lock as long as it runs. Returns None if another caller finds no
    ledger of this version. Raises `LedgerError` for a folder or a ledger that cannot be used.
    """
    refuse_unfinished_restore(folder.parent.parent)
    make_folder(folder)
    close_to_others(folder)
    path = folder / LEDGER_NAME
    with readable_files(folder):
        return await Ledger.open(path, clock) if is_sole or is_current(path) else None
