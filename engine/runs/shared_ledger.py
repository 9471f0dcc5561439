"""The ledger of a workspace, which all runs of this process share.

It is opened for the first run. If its file was removed or replaced, the next run closes it and
opens the one that is now in its place.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path

from engine.cancellation import await_to_end
from engine.clock import Clock
from engine.delivery.sender import SendHistory
from engine.delivery.stop import StopSwitch
from engine.ledger.locks import FileLock, Patience
from engine.ledger.sqlite.ledger import open_shared
from engine.runs.arguments import Note
from engine.runs.interruptible import acquire_or_stop
from engine.runs.ports import Ledger


@dataclass(frozen=True, slots=True)
class LockWait:
    """How long a run waits for other processes, what stops the wait, and what announces it."""

    seconds: float
    switch: StopSwitch
    note: Note

    @property
    def patience(self) -> Patience:
        """The same values in the form that locks take."""
        return Patience(
            self.seconds,
            lambda: stop.reason if (stop := self.switch.pending) else None,
            lambda holder: self.note(f"waiting for {holder}"),
        )


class SharedLedger:
    """One workspace's ledger, opened once for any number of runs."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        sending: FileLock,
        requests: int,
        prepare: Callable[[Ledger], Awaitable[None]],
    ) -> None:
        """Open nothing yet; `sending` is the lock that is held to create or to migrate the file.

        `requests` is how many sends a window of the ceiling may hold. `prepare` is awaited with
        each ledger before any run uses it; if it fails, the ledger stays open for the next run.
        """
        self._folder = folder
        self._clock = clock
        self._sending = sending
        self._requests = requests
        self._prepare = prepare
        self._opening = asyncio.Lock()
        self._ledger: Ledger | None = None
        self._is_prepared = False
        self._users: list[StopSwitch] = []
        self._released = asyncio.Event()
        self.sends = _SendTimes(clock)
        """The recent sends of all processes; of this process also those in ledgers now gone."""

    @asynccontextmanager
    async def used(self, waiting: LockWait) -> AsyncIterator[Ledger]:
        """Yield the ledger, which stays open during the block.

        A stop of `waiting` also ends the wait for other runs of this process. Raises
        `LockHeldError` if the file must be created or migrated and another process holds the
        sending lock for too long, and raises as `open_shared` does.
        """
        ledger = await self._open(waiting)
        self._users.append(waiting.switch)
        try:
            yield ledger
        finally:
            self._users.remove(waiting.switch)
            self._released.set()

    async def _open(self, waiting: LockWait) -> Ledger:
        with ExitStack() as held:
            is_sole = False
            while True:
                await acquire_or_stop(self._opening, waiting.switch)
                try:
                    await self._leave_gone(waiting.switch)
                    ledger = self._ledger or await self._open_file(is_sole=is_sole)
                    if ledger is not None:
                        if not self._is_prepared:
                            await self._prepare(ledger)
                            self._is_prepared = True
                        return ledger
                finally:
                    self._opening.release()
                # Each run waits as long as it may itself, whatever the others do meanwhile.
                await self._sending.acquire(waiting.patience)
                held.callback(self._sending.release)
                is_sole = True

    async def _open_file(self, *, is_sole: bool) -> Ledger | None:
        self._ledger = await open_shared(self._folder, self._clock, is_sole=is_sole)
        if self._ledger is not None:
            self._is_prepared = False
            self.sends.follow(self._ledger.sends)
        return self._ledger

    async def _leave_gone(self, switch: StopSwitch) -> None:
        """Close the ledger if its file was removed or replaced, once the runs that use it end.

        Their requests could not be recorded, so they are stopped. Raises `IncompleteError` if
        `switch` is pulled meanwhile.
        """
        ledger = self._ledger
        if ledger is None or (gone := ledger.gone) is None:
            return
        for user in tuple(self._users):
            user.drain(gone.message)
        with switch.connected(lambda _: self._released.set()):
            while self._users:
                switch.refuse_if_pulled()
                self._released.clear()
                await self._released.wait()
        await self.sends.keep(self._requests)
        await self.close()

    async def close(self) -> None:
        """Close the ledger, which no run uses; a cancellation is raised once that is done."""
        ledger, self._ledger = self._ledger, None
        if ledger is None:
            return
        await await_to_end(ledger.close())


class _SendTimes:
    """The sends of all processes, also those that were only in ledgers that are gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ledger: SendHistory | None = None
        self._earlier = Counter[tuple[int, int]]()
        """How many requests of earlier ledgers were sent in each millisecond of the clock."""
        self._held_until = -inf

    def follow(self, ledger: SendHistory) -> None:
        """Read from a ledger from now on; it may have some of the sends that are kept."""
        self._ledger = ledger

    async def keep(self, count: int) -> None:
        """Keep the last requests of the ledger, and the wait that the last 429 asked for.

        Raises nothing: if the ledger can no longer be read, `count` requests count as sent now.
        """
        now = self._clock.now()
        try:
            recent = await self.recent_sends(count)
            self._held_until = now + await self.seconds_held()
        except Exception:  # noqa: BLE001 - too long a wait is safe, and too short a wait is not
            recent = [(0.0, 0.0)] * count
        self._earlier = _by_millisecond(recent, now)

    async def recent_sends(self, count: int) -> list[tuple[float, float]]:
        """Return how many seconds ago each request was sent, and was answered or failed.

        These are those of `SendHistory.recent_sends`, and those kept, in no order.
        """
        if self._ledger is None:
            return []
        now = self._clock.now()
        recent = await self._ledger.recent_sends(count)
        if not self._earlier:
            return recent
        times = _by_millisecond(recent, now) | self._earlier
        return [(now - sent / 1e3, now - ended / 1e3) for sent, ended in times.elements()]

    async def seconds_held(self) -> float:
        """Return the remaining seconds of the wait that the last 429 asked for."""
        held = 0.0 if self._ledger is None else await self._ledger.seconds_held()
        return max(held, self._held_until - self._clock.now())


def _by_millisecond(recent: list[tuple[float, float]], now: float) -> Counter[tuple[int, int]]:
    return Counter(
        (ceil((now - sent_ago) * 1e3), ceil((now - ended_ago) * 1e3))
        for sent_ago, ended_ago in recent
    )
