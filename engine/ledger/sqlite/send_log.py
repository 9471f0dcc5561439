"""Every request: entered as intended before its first byte is sent, and later with its outcome."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from engine.clock import Clock, Stamp
from engine.errors import StateGoneError
from engine.ledger.records import (
    AttemptResult,
    Division,
    Registration,
    RunState,
    Settlement,
    ages,
)
from engine.ledger.sqlite import batches as changes
from engine.ledger.sqlite import recovery
from engine.ledger.sqlite.store import Execute, Store

_OUT_OF_ORDER = 10_000
"""Attempts that are searched besides the latest: runs at once send in another order than they enter
intents, and get answers in a third, but far fewer than these are ever in flight at once."""


class SendLog(Store):
    """A workspace's requests."""

    def __init__(
        self, execute: Execute, clock: Clock, gone: Callable[[], StateGoneError | None]
    ) -> None:
        """Refuse to enter an intent if `gone` returns an error."""
        super().__init__(execute, clock)
        self._gone = gone

    async def recent_sends(self, count: int) -> list[tuple[float, float]]:
        """Return how many seconds ago each request was sent, and was answered or failed.

        These are the `count` attempts and probes of the workspace that were sent last, and the
        `count` that ended last, in no order: a slow one may be among the latter alone, and the
        window limit needs both.
        """
        now = self._clock.stamp()

        def work(connection: sqlite3.Connection) -> list[tuple[float, float]]:
            return [
                ages(Stamp(*sent), ended_utc_ns, now)
                for table, ended in (("attempt", "ended_utc_ns"), ("probe", "sent_utc_ns"))
                for *sent, ended_utc_ns in connection.execute(
                    f"SELECT sent_boot_id, sent_boot_ns, sent_utc_ns, {ended} FROM {table} "  # noqa: S608 - ours
                    "WHERE sent_utc_ns IS NOT NULL ORDER BY id DESC LIMIT ?",
                    (count + _OUT_OF_ORDER,),
                )
            ]

        # Only the ages are in order: a wall clock may be set back.
        found = await self._execute(work)
        by_time = (sorted(enumerate(found), key=lambda each: each[1][time]) for time in (0, 1))
        return list(dict(each for some in by_time for each in some[:count]).values())

    async def seconds_held(self) -> float:
        """Return the seconds left of the last 429's wait; 0 once a later request was answered.

        Requests that were under way at the same time do not count, only those sent after it.
        """
        now = self._clock.stamp()

        def work(connection: sqlite3.Connection) -> float:
            answers = connection.execute(
                "SELECT outcome, retry_after, ended_utc_ns, sent_boot_id, sent_boot_ns, "
                "sent_utc_ns FROM attempt WHERE http_status IS NOT NULL ORDER BY id DESC LIMIT ?",
                (_OUT_OF_ORDER,),
            ).fetchall()
            last_answered = max(
                (sent_utc_ns for outcome, *_, sent_utc_ns in answers if outcome != "throttled"),
                default=0,
            )
            held = 0.0
            for outcome, retry_after, ended_utc_ns, *sent in answers:
                if outcome == "throttled" and last_answered <= ended_utc_ns:
                    sent_at = Stamp(*sent)
                    under_way = (ended_utc_ns - sent_at.utc_ns) / 1e9
                    left = float(retry_after or 0.0) - (sent_at.age_at(now) - under_way)
                    held = max(held, left)
            return held

        return await self._execute(work)

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Count the request of the block, which carries no uid, against the ceiling."""
        await self._execute(lambda c: c.execute("INSERT INTO probe DEFAULT VALUES"))
        try:
            yield
        finally:
            now = self._clock.stamp()
            await self._execute(lambda c: recovery.conclude_probes(c, now))

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        max_wait_seconds: float = 0.0,
    ) -> None:
        """Enter `batches`, and the intent to send batch `number` for the `attempt`-th time.

        It may wait up to `max_wait_seconds` for another entry to share its commit with. Raises
        `StateGoneError` if the file was removed or replaced.
        """
        if (gone := self._gone()) is not None:
            raise gone
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            changes.register(connection, state.run.number, batches)
            connection.execute(
                "INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns) "
                "VALUES (?, ?, ?, ?, ?)",
                (state.run.number, number, attempt, state.execution, now),
            )

        await self._execute(work, max_wait_seconds)

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        result: AttemptResult,
        change: Settlement | Division | None,
    ) -> None:
        """Enter how an attempt ended, together with the outcome of its batch."""

        def work(connection: sqlite3.Connection) -> None:
            sent = result.sent
            connection.execute(
                "UPDATE attempt SET sent_boot_id = ?, sent_boot_ns = ?, sent_utc_ns = ?, "
                "ended_utc_ns = ?, outcome = ?, http_status = ?, request_id = ?, reason = ?, "
                "retry_after = ? "
                "WHERE run = ? AND batch = ? AND attempt = ?",
                (
                    sent and sent.boot_id,
                    sent and sent.boot_ns,
                    sent and sent.utc_ns,
                    result.ended_utc_ns,
                    result.outcome,
                    result.http_status,
                    result.request_id,
                    result.reason,
                    result.retry_after,
                    state.run.number,
                    number,
                    attempt,
                ),
            )
            if result.may_have_been_applied:
                connection.execute(
                    "UPDATE batch SET may_have_been_applied = 1 WHERE run = ? AND batch = ?",
                    (state.run.number, number),
                )
            changes.apply(connection, state.run.number, number, change)

        await self._execute(work)

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Enter `batches`, and the outcome of batch `number` without an attempt of its own."""

        def work(connection: sqlite3.Connection) -> None:
            changes.register(connection, state.run.number, batches)
            changes.apply(connection, state.run.number, number, change)

        await self._execute(work)
