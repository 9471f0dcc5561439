"""The ledger's writing side: runs, batches and attempts, each change one durable step."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import orjson

from engine.clock import Clock, Stamp
from engine.errors import ExitStatus, StateGoneError, UsageError
from engine.ledger.records import (
    AttemptResult,
    Division,
    ExecutionSettings,
    OpenBatch,
    Registration,
    RunCommand,
    RunKey,
    RunState,
    Settlement,
)
from engine.ledger.sqlite import changes, files, recovery
from engine.ledger.sqlite.access import readable_files
from engine.ledger.sqlite.batches import known_batches
from engine.ledger.sqlite.rescue import copy_beside, put_back
from engine.ledger.sqlite.schema import NONSENSE, check_content, open_ledger
from engine.ledger.sqlite.writer import LedgerWriter
from engine.ledger.state_folder import (
    close_to_others,
    is_still,
    make_folder,
    sole_writer,
    state_gone,
)
from engine.pacing import PaceRecord
from engine.payload.batch import KnownBatch, UidlessRows
from engine.storage.paths import LEDGER_NAME

_LATE_ANSWERS = 300
"""Answers among which the last 429 is looked for: far more than one waits for at once."""


class Ledger:
    """One workspace's record, written by this process alone. Use it within its event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
        self._connection = connection
        self._found = path.stat()
        self._writer = LedgerWriter(connection, path)
        self.write = self._writer.write
        """Runs a function on the connection, in a transaction; see `LedgerWriter.write`."""
        self._clock = clock
        self.path = path

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open or create the file; `LedgerError` says why it cannot be used."""
        return cls(open_ledger(path, now_utc_ns=clock.stamp().utc_ns), path, clock)

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

    async def begin(
        self,
        key: RunKey,
        command: RunCommand,
        settings: ExecutionSettings,
        *,
        restart: bool = False,
        restart_if_overtaken: bool = False,
    ) -> RunState:
        """Go on with the unfinished run of the same identity, or begin a new one.

        With `restart`, the unfinished run is closed as abandoned and a new one begins; with
        `restart_if_overtaken` so too when a later run has touched the same cohort. Without it that
        raises `UsageError`: going on could undo what the later run did.
        """
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> RunState:
            found = changes.unfinished(connection, changes.identity_of(key))
            later = found and changes.later_run(connection, found[0], key.partner, key.cohort.id)
            if later and not restart_if_overtaken and found:
                raise overtaken(found[1], later, key.cohort.id)
            if found is not None and (restart or later):
                changes.abandon(connection, found[0], now)
                found = None
            if found is None:
                return changes.insert_run(connection, key, command, settings, now)
            files.enter(connection, found[0], command.files)
            return changes.resume_run(connection, *found, key, settings, now)

        return await self._writer.write(work)

    async def known_batches(self, run: int) -> list[KnownBatch]:
        """Return the batches cut from the export so far, in its order."""
        return await self._writer.write(lambda connection: known_batches(connection, run))

    async def open_batches(self, run: int) -> list[OpenBatch]:
        """Return what earlier executions left neither accepted nor rejected, in export order."""

        def work(connection: sqlite3.Connection) -> list[OpenBatch]:
            return [
                OpenBatch(number, first_uid, uid_count, attempts, bool(isolated))
                for number, first_uid, uid_count, isolated, attempts in connection.execute(
                    "SELECT batch, first_uid, uid_count, isolated, "
                    "(SELECT count(*) FROM attempt WHERE run = b.run AND batch = b.batch) "
                    "FROM batch AS b WHERE run = ? AND state = 'open' ORDER BY first_uid",
                    (run,),
                )
            ]

        return await self._writer.write(work)

    async def uids_settled(self, run: int) -> tuple[int, int]:
        """Return how many uids of a run are accepted, and how many rejected."""

        def work(connection: sqlite3.Connection) -> tuple[int, int]:
            accepted, rejected = connection.execute(
                "SELECT coalesce(sum(iif(state = 'accepted', uid_count, 0)), 0), "
                "coalesce(sum(iif(state = 'rejected', uid_count, 0)), 0) FROM batch WHERE run = ?",
                (run,),
            ).fetchone()
            return accepted, rejected

        return await self._writer.write(work)

    async def recover(self) -> None:
        """Put in order what a process that died has left behind; the caller holds the lock.

        An intent without an outcome may have been sent, and may have been applied. It counts as
        sent now, which is the latest that it can have been.
        """
        now = self._clock.stamp()
        await self._writer.write(lambda connection: recovery.recover(connection, now))

    async def recent_sends(self, count: int) -> list[float]:
        """Return how many seconds ago each of the workspace's last requests was sent.

        These are `count` attempts and `count` probes, in no order.
        """
        now = self._clock.stamp()

        def work(connection: sqlite3.Connection) -> list[float]:
            return [
                Stamp(*row).age_at(now)
                for table in ("attempt", "probe")
                for row in connection.execute(
                    f"SELECT sent_boot_id, sent_boot_ns, sent_utc_ns FROM {table} "  # noqa: S608 - ours
                    "WHERE sent_utc_ns IS NOT NULL ORDER BY id DESC LIMIT ?",
                    (count,),
                )
            ]

        return await self._writer.write(work)

    async def seconds_held(self) -> float:
        """Return how much longer the last 429 has asked to wait; 0 once another answer came since.

        Requests that were under way beside it say nothing: only one that left after it does.
        """
        now = self._clock.stamp()

        def work(connection: sqlite3.Connection) -> float:
            answers = connection.execute(
                "SELECT outcome, retry_after, ended_utc_ns, sent_boot_id, sent_boot_ns, "
                "sent_utc_ns FROM attempt WHERE http_status IS NOT NULL ORDER BY id DESC LIMIT ?",
                (_LATE_ANSWERS,),
            ).fetchall()
            others = [sent_utc_ns for outcome, *_, sent_utc_ns in answers if outcome != "throttled"]
            held = 0.0
            for outcome, retry_after, ended_utc_ns, *sent in answers:
                sent_at = Stamp(*sent)
                if outcome == "throttled" and max(others, default=0) <= ended_utc_ns:
                    under_way = (ended_utc_ns - sent_at.utc_ns) / 1e9
                    left = float(retry_after or 0.0) - (sent_at.age_at(now) - under_way)
                    held = max(held, left)
            return held

        return await self._writer.write(work)

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Count the request of the block, which carries no uid, against the ceiling."""
        await self._writer.write(lambda c: c.execute("INSERT INTO probe DEFAULT VALUES"))
        try:
            yield
        finally:
            now = self._clock.stamp()
            await self._writer.write(lambda c: recovery.conclude_probes(c, now))

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        patience_seconds: float = 0.0,
    ) -> None:
        """Enter `batches`, and the intent to send batch `number` for the `attempt`-th time.

        For up to `patience_seconds` it may wait for another entry to share its commit with. Raises
        `StateGoneError` where nobody could read what it writes.
        """
        if (gone := self.gone) is not None:
            raise gone
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            changes.register(connection, state.run, batches)
            connection.execute(
                "INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns) "
                "VALUES (?, ?, ?, ?, ?)",
                (state.run, number, attempt, state.execution, now),
            )

        await self._writer.write(work, patience_seconds)

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        verdict: AttemptResult,
        change: Settlement | Division | None,
    ) -> None:
        """Enter how an attempt ended, together with what becomes of its batch."""

        def work(connection: sqlite3.Connection) -> None:
            sent = verdict.sent
            connection.execute(
                "UPDATE attempt SET sent_boot_id = ?, sent_boot_ns = ?, sent_utc_ns = ?, "
                "ended_utc_ns = ?, outcome = ?, http_status = ?, request_id = ?, reason = ?, "
                "retry_after = ? "
                "WHERE run = ? AND batch = ? AND attempt = ?",
                (
                    sent and sent.boot_id,
                    sent and sent.boot_ns,
                    sent and sent.utc_ns,
                    verdict.ended_utc_ns,
                    verdict.outcome,
                    verdict.http_status,
                    verdict.request_id,
                    verdict.reason,
                    verdict.retry_after,
                    state.run,
                    number,
                    attempt,
                ),
            )
            if verdict.may_have_been_applied:
                connection.execute(
                    "UPDATE batch SET may_have_been_applied = 1 WHERE run = ? AND batch = ?",
                    (state.run, number),
                )
            changes.apply(connection, state.run, number, change)

        await self._writer.write(work)

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Enter `batches`, and what becomes of batch `number` without an attempt of its own."""

        def work(connection: sqlite3.Connection) -> None:
            changes.register(connection, state.run, batches)
            changes.apply(connection, state.run, number, change)

        await self._writer.write(work)

    async def enter_uidless(self, state: RunState, rows: UidlessRows, *, is_complete: bool) -> None:
        """Enter rows that ride with no batch, and whether they are all of the export."""
        await self._writer.write(
            lambda connection: changes.enter_uidless(
                connection, state.run, rows, is_complete=is_complete
            )
        )

    async def finish(
        self,
        state: RunState,
        status: str,
        exit_status: ExitStatus,
        reason: str | None,
        pace: PaceRecord | None,
    ) -> None:
        """Close this execution, which sent nothing if it has no pace; enter the run's status."""
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sitting SET ended_utc_ns = ?, pace = ? WHERE run = ? AND sitting = ?",
                (now, pace and _json(pace), state.run, state.execution),
            )
            changes.close_run(connection, state.run, status, now, exit_status, reason)

        await self._writer.write(work)


def overtaken(run: str, later: str, cohort_id: str) -> UsageError:
    """Say that a run can't go on, since a later one has sent something to its cohort."""
    return UsageError(
        f"run {run} cannot go on: run {later} has touched cohort {cohort_id} since",
        hint="pass --on-changed restart to send this export from its start",
    )


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
            except NONSENSE:
                # Not all of a large file was checked. If it is damaged, that is what to tell.
                await ledger.write(lambda connection: check_content(connection, ledger.path))
                raise
            finally:
                # All that was written is durable. What fails here must not hide how a run ended.
                with suppress(Exception):
                    await ledger.close()


def _json(pace: PaceRecord) -> str:
    return orjson.dumps(pace, option=orjson.OPT_NON_STR_KEYS).decode()
