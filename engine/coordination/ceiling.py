"""A workspace's ceiling, shared by processes on several hosts through a server.

The rule is in `ceiling.lua`. A process reserves a slot, waits for it, and asks once more right
before it sends: so a 429 that any process has seen holds all, and a process that died loses only
what it had reserved. It reports each end, which bounds the sends of all.

While the server cannot be reached, a process sends nothing, or by its own share of the ceiling,
which begins a window later: until then, others may have sent at the full rate. It tries to return
all the time, and then enters what it has sent itself, in case the server has lost it. A server that
has lost everything lets a window pass.
"""

import asyncio
import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.coordination.ceiling_script import MOST_ENTRIES, CeilingScript, End
from engine.coordination.recent_sends import RecentSends
from engine.coordination.server import Server, UnreachableError
from engine.coordination.settings import SharedSettings
from engine.errors import CohortSyncError, IncompleteError
from engine.pacing.schedule import LARGEST_MARGIN
from engine.pacing.settings import PacingSettings
from engine.pacing.slots import Slot, SlotEnd

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RETURN_SECONDS = 0.5
"""Seconds between attempts to reach the server."""
AHEAD_SECONDS = 2.0
"""The most that a process reserves at once: what its death costs."""
_BATCH_SECONDS = 0.05
"""What a process reserves at least at once: then the server's answers do not limit the rate."""
_BEAT_SECONDS = 1.0
"""Seconds between steps at most: they show others that this process lives."""
_CLOSE_SECONDS = 3.0
_LONGEST_WAIT_SECONDS = 10.0
"""A wait is asked for again after this: the server may have lost the reason."""
_ANNOUNCED_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Reserved:
    id: str
    at: float
    """When it may be sent, in seconds of the clock."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """The server does not allow a request yet."""

    reason: str
    seconds: float


class ServerCeiling:
    """The ceiling at a server; it implements `engine.pacing.slots.Slots`."""

    def __init__(  # noqa: PLR0913, PLR0917 - the server and the rule, and who is told
        self,
        server: Server,
        prefix: str,
        pacing: PacingSettings,
        shared: SharedSettings,
        timeout_seconds: float,
        give_up_seconds: float,
        clock: Clock,
    ) -> None:
        """`prefix` begins the names of the keys; nothing is sent to the server yet.

        `timeout_seconds` is the longest time from a request to its end. A server that is away for
        `give_up_seconds` ends the runs that wait for it.
        """
        self._label = server.label
        self._script = CeilingScript(server, prefix, pacing, clock)
        self._pacing = pacing
        self._down = shared.shared_down
        self._weight = shared.weight
        self._timeout = timeout_seconds
        self._give_up = give_up_seconds
        self._clock = clock
        self._number = 0
        self._started = 0
        self._batch = 1
        self._reserved: deque[_Reserved] = deque()
        self._sent = RecentSends()
        self._unreported: deque[End] = deque()
        self._away_since: float | None = None
        self._refusal: CohortSyncError | None = None
        self._moved = asyncio.Event()
        """Set when the server was lost, or is there again."""
        self._due = asyncio.Event()
        """Set when the keeper has something to do."""
        self._keeper: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_announced = False
        """Whether the user knows that the server is away."""
        self.note: Callable[[str], None] = lambda _: None
        """Receives remarks for the user."""
        self.returned: Callable[[], Awaitable[None]] = _nothing
        """Is awaited when the server is there again, before anything is sent."""
        self.before_turn: Callable[[], Awaitable[None]] = _nothing
        """Is awaited before each request."""

    async def open(self) -> None:
        """Join the other processes; raises `ConfigError`, and `UnreachableError` by setting."""
        try:
            await self._script.join()
        except UnreachableError as error:
            if self._down == "stop":
                raise
            self._lose(error)
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Report what is left, and leave; raises nothing."""
        if self._keeper is None:
            return
        self._is_closing = True
        self._due.set()
        await asyncio.wait([self._keeper], timeout=_CLOSE_SECONDS)
        self._keeper.cancel()
        now = self._clock.now()
        ends = [End(each.id, "cancelled", now, now) for each in self._reserved]
        ends = [*self._unreported, *ends][:MOST_ENTRIES]
        if self._away_since is None:
            with suppress(Exception):
                await self._script.report("leave", ends)

    @property
    def share(self) -> float:
        """The share of the ceiling that this process may use by itself; 1 while all share it."""
        if self._away_since is None or isinstance(self._down, str):
            return 1.0
        return self._down

    @property
    def clock_offset_ns(self) -> int:
        """How far the server's clock is ahead of this host's wall clock."""
        return self._script.clock_offset_ns

    @property
    def found(self) -> int | None:
        """The ceiling after the last step down due to 429s of any process; None without one."""
        return self._script.found

    @property
    def is_away(self) -> bool:
        """Whether the server cannot be reached."""
        return self._away_since is not None

    async def take(self, requests: int) -> Slot:
        """Wait until one request may be sent; see `engine.pacing.slots.Slots.take`."""
        held = 0.0
        announced = ""
        while True:
            if self._refusal is not None:
                raise self._refusal
            if self._away_since is not None:
                if await self._may_send_alone(self._away_since):
                    self._number += 1
                    slot = Slot(f"{self._script.process}/alone-{self._number}", is_alone=True)
                    self._sent.add(slot.id, self._clock.now())
                    return slot
                continue
            try:
                await self.before_turn()
                found = await self._try(requests, held)
            except UnreachableError as error:
                self._lose(error)
                continue
            if isinstance(found, Slot):
                return found
            if found.reason == "resuming" != announced and found.seconds > _ANNOUNCED_SECONDS:
                announced = found.reason
                self.note(
                    f"{self._label} has no record of the last "
                    f"{self._pacing.per_seconds:g} s of this workspace: requests are sent again "
                    f"in {found.seconds:.0f} s"
                )
            began = self._clock.now()
            await self._sleep(min(found.seconds, _LONGEST_WAIT_SECONDS))
            if found.reason == "held":
                held += self._clock.now() - began

    def finish(
        self, slot: Slot, sent_at: float, end: SlotEnd, shortest: float, retry_after: float | None
    ) -> None:
        """Report the end of a request; see `engine.pacing.slots.Slots.finish`."""
        now = self._clock.now()
        self._script.shortest = shortest
        self._sent.end(slot.id, now)
        if slot.is_alone and self._away_since is not None:
            return  # It is entered when the server is there again.
        detail = -1.0 if retry_after is None else retry_after
        self._unreported.append(End(slot.id, end.value, sent_at, now, detail))
        self._due.set()

    async def _try(self, requests: int, held: float) -> Slot | _Wait:
        """Return the next slot at its time, or how long to wait before another attempt."""
        if not self._reserved and (wait := await self._reserve(requests)) is not None:
            return wait
        reserved = self._reserved[0]
        if (seconds := reserved.at - self._clock.now()) > 0:
            await self._sleep(seconds)
            if self._away_since is not None:
                return _Wait("lost", 0.0)
        return await self._start(requests, held)

    async def _reserve(self, requests: int) -> _Wait | None:
        """Reserve the next slots; return a wait if there are none."""
        reply = await self._script.step("reserve", self._batch, requests=requests)
        received = self._clock.now()
        kind, now, *rest = reply
        if kind != b"reserved":
            return _Wait(kind.decode(), (rest[0] - now) / 1e6)
        for name, at in zip(rest[0::2], rest[1::2], strict=True):
            self._reserved.append(_Reserved(name.decode(), received + (at - now) / 1e6))
        slot_seconds = self._pacing.per_seconds / max(1, requests)
        most = max(1, min(MOST_ENTRIES, int(AHEAD_SECONDS / slot_seconds)))
        wanted = self._weight * max(1, math.ceil(_BATCH_SECONDS / slot_seconds))
        self._batch = min(2 * self._batch, wanted, most)
        return None

    async def _start(self, requests: int, held: float) -> Slot | _Wait:
        """Ask to send now, by the first reserved slot."""
        reserved = self._reserved.popleft()
        self._sent.add(reserved.id, self._clock.now())
        is_sent = False
        try:
            reply = await self._script.step(
                "start", reserved.id, round(self._timeout * 1e6), requests=requests
            )
            is_sent = reply[0] == b"sent"
        except BaseException:
            # The server may count it as sent. It is not: it ends at once.
            now = self._clock.now()
            self._unreported.append(End(reserved.id, SlotEnd.FAILED.value, now, now))
            self._due.set()
            raise
        finally:
            if not is_sent:
                self._sent.drop(reserved.id)
        kind, now, value, *rest = reply
        if kind == b"early":
            self._reserved.appendleft(
                _Reserved(reserved.id, self._clock.now() + (value - now) / 1e6)
            )
            return _Wait("early", (value - now) / 1e6)
        if kind != b"sent":
            self._batch = 1
            return _Wait(kind.decode(), (value - now) / 1e6)
        elsewhere = max(0, rest[0] - self._started - 1) if self._started else 0
        self._started = rest[0]
        return Slot(reserved.id, is_probe=bool(value), elsewhere=elsewhere, held_seconds=held)

    async def _may_send_alone(self, since: float) -> bool:
        """Wait for the server, or until this process may go by its own share of the ceiling."""
        now = self._clock.now()
        if isinstance(self._down, float):
            wait = since + self._pacing.per_seconds * (1 + LARGEST_MARGIN) - now
            if wait <= 0:
                return True
        else:
            wait = since + self._give_up - now
            if wait <= 0:
                raise IncompleteError(
                    f"{self._label} could not be reached for {self._give_up:g} s",
                    hint="nothing is sent without the shared ceiling (`limits.shared_down`): run "
                    "the same command again when the server is there",
                )
        await self._sleep(wait)
        return False

    async def _sleep(self, seconds: float) -> None:
        """Sleep, at most until the server is lost or there again."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._moved.wait()

    # The keeper: it reports ends, and returns to a server that was away.

    async def _keep(self) -> None:
        while not self._is_closing:
            seconds = _BEAT_SECONDS if self._away_since is None else RETURN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._due.wait()
            self._due.clear()
            was_away = self.is_away
            try:
                await self._catch_up()
            except UnreachableError as error:
                self._lose(error)
                if was_away:
                    self._due.clear()
            except CohortSyncError as error:
                self._refusal = error
                self._moved.set()
                return

    async def _catch_up(self) -> None:
        if self._away_since is not None:
            await self._return()
        while self._unreported:
            ends = [self._unreported[i] for i in range(min(MOST_ENTRIES, len(self._unreported)))]
            await self._script.report("finish", ends)
            for _ in ends:
                self._unreported.popleft()
            self._sent.forget(self._clock.now() - 2 * self._pacing.per_seconds)
        if self._clock.now() - self._script.last_step >= _BEAT_SECONDS:
            await self._script.step("beat")

    async def _return(self) -> None:
        """Join again, and enter what this process has sent in the last window."""
        await self._script.join()
        self._sent.forget(self._clock.now() - 2 * self._pacing.per_seconds)
        known = self._sent.ends(self._timeout)
        for first in range(0, len(known), MOST_ENTRIES):
            await self._script.report("finish", known[first : first + MOST_ENTRIES])
        await self.returned()
        if self._away_since is not None and self._is_announced:
            away = self._clock.now() - self._away_since
            self.note(f"{self._label} is there again after {away:.0f} s")
        self._away_since = None
        self._moved.set()

    def _lose(self, error: UnreachableError) -> None:
        """Note that the server cannot be reached."""
        if self._away_since is None:
            self._away_since = self._clock.now()
            self._reserved.clear()
            self._batch = 1
            self._is_announced = False
        elif not self._is_announced:  # It was tried again in vain.
            self._is_announced = True
            doing = "nothing is sent until it is there again"
            if isinstance(self._down, float):
                doing = f"in a window, this process sends by {self._down:g} of the ceiling"
            self.note(f"warning: {error.message}; {doing}")
        self._moved.set()
        self._due.set()


async def _nothing() -> None:
    """Do nothing."""
