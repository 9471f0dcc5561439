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
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.clock import Clock
from engine.coordination.server import Reply, Server, UnreachableError
from engine.coordination.settings import SharedSettings
from engine.errors import CohortSyncError, ConfigError, IncompleteError
from engine.pacing.schedule import LARGEST_MARGIN
from engine.pacing.settings import PacingSettings
from engine.pacing.slots import Slot, SlotEnd

KEYS = ("state", "sends", "ends", "reserved", "open", "accepted", "shortest", "seen")
"""The names of the keys of `ceiling.lua`, in its order."""
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
_MOST_ENTRIES = 64
"""Reservations, and ends, of one step."""
_ANNOUNCED_SECONDS = 3.0


@dataclass(slots=True)
class _Sent:
    """A request of this process, within the last window."""

    sent_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Reserved:
    id: str
    at: float
    """When it may be sent, in seconds of the clock."""


@dataclass(frozen=True, slots=True)
class _End:
    id: str
    kind: str
    sent_at: float
    ended_at: float
    detail: float = -1.0
    """Of a 429, its Retry-After; of an open request, the seconds until it counts as ended."""


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
        self._server = server
        self._keys = [f"{prefix}{name}" for name in KEYS]
        self._pacing = pacing
        self._down = shared.shared_down
        self._weight = shared.weight
        self._timeout = timeout_seconds
        self._give_up = give_up_seconds
        self._clock = clock
        self.process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._epoch = ""
        """Names the server's record of the workspace; empty before the first step."""
        self._shortest = 0.0
        self._clock_offset_ns = 0
        self._number = 0
        self._started = 0
        self._batch = 1
        self._found: int | None = None
        self._reserved: deque[_Reserved] = deque()
        self._sent: dict[str, _Sent] = {}
        self._unreported: deque[_End] = deque()
        self._last_step = 0.0
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
            await self._join()
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
        ends = [_End(each.id, "cancelled", now, now) for each in self._reserved]
        ends = [*self._unreported, *ends][:_MOST_ENTRIES]
        if self._away_since is None:
            with suppress(Exception):
                await self._step("leave", *self._ends(ends))

    @property
    def share(self) -> float:
        """The share of the ceiling that this process may use by itself; 1 while all share it."""
        if self._away_since is None or isinstance(self._down, str):
            return 1.0
        return self._down

    @property
    def clock_offset_ns(self) -> int:
        """How far the server's clock is ahead of this host's wall clock."""
        return self._clock_offset_ns

    @property
    def found(self) -> int | None:
        """The ceiling after the last step down due to 429s of any process; None without one."""
        return self._found

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
                    slot = Slot(f"{self.process}/alone-{self._number}", is_alone=True)
                    self._sent[slot.id] = _Sent(self._clock.now())
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
                    f"{self._server.label} has no record of the last "
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
        self._shortest = shortest
        if (sent := self._sent.get(slot.id)) is not None:
            sent.ended_at = now
        if slot.is_alone and self._away_since is not None:
            return  # It is entered when the server is there again.
        detail = -1.0 if retry_after is None else retry_after
        self._unreported.append(_End(slot.id, end.value, sent_at, now, detail))
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
        reply = await self._step("reserve", self._batch, requests=requests)
        received = self._clock.now()
        kind, now, *rest = reply
        if kind != b"reserved":
            return _Wait(kind.decode(), (rest[0] - now) / 1e6)
        for name, at in zip(rest[0::2], rest[1::2], strict=True):
            self._reserved.append(_Reserved(name.decode(), received + (at - now) / 1e6))
        slot_seconds = self._pacing.per_seconds / max(1, requests)
        most = max(1, min(_MOST_ENTRIES, int(AHEAD_SECONDS / slot_seconds)))
        wanted = self._weight * max(1, math.ceil(_BATCH_SECONDS / slot_seconds))
        self._batch = min(2 * self._batch, wanted, most)
        return None

    async def _start(self, requests: int, held: float) -> Slot | _Wait:
        """Ask to send now, by the first reserved slot."""
        reserved = self._reserved.popleft()
        self._sent[reserved.id] = _Sent(self._clock.now())
        is_sent = False
        try:
            reply = await self._step(
                "start", reserved.id, round(self._timeout * 1e6), requests=requests
            )
            is_sent = reply[0] == b"sent"
        except BaseException:
            # The server may count it as sent. It is not: it ends at once.
            now = self._clock.now()
            self._sent.pop(reserved.id, None)
            self._unreported.append(_End(reserved.id, SlotEnd.FAILED.value, now, now))
            self._due.set()
            raise
        finally:
            if not is_sent:
                self._sent.pop(reserved.id, None)
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
                    f"{self._server.label} could not be reached for {self._give_up:g} s",
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

    # Steps.

    async def _step(self, operation: str, *arguments: object, requests: int | None = None) -> Reply:
        """Carry out a step of `ceiling.lua`, and return its answer without the common end."""
        pacing = self._pacing
        reply = await self._server.run(
            "ceiling",
            self._keys,
            [
                *(operation, self.process, secrets.token_hex(8)),
                *(pacing.most, round(pacing.per_seconds * 1e6)),
                *(pacing.requests if requests is None else requests, *arguments),
            ],
        )
        self._last_step = self._clock.now()
        self._clock_offset_ns = 1000 * int(reply[1]) - self._clock.stamp().utc_ns
        *reply, epoch, found, allowed = reply
        self._epoch = self._epoch or epoch.decode()
        self._found = found if found and allowed < pacing.most else None
        if epoch.decode() != self._epoch:
            raise self._lost_record(epoch.decode())
        return reply

    def _lost_record(self, epoch: str) -> UnreachableError:
        """Return the error for a server that has lost its record: what was sent is entered anew."""
        self._epoch = epoch
        self._reserved.clear()
        return UnreachableError(f"{self._server.label} has lost its record")

    async def _join(self) -> None:
        reply = await self._step("join")
        if reply[0] == b"differs":
            own = f"{self._pacing.most} in {self._pacing.per_seconds:g} s"
            number, window = reply[2].decode().split(" in ")
            raise ConfigError(
                f"other processes at {self._server.label} share a ceiling of {number} in "
                f"{float(window) / 1e6:g} s, and this one is configured with {own}",
                hint="give `limits` the same `requests`, `per_seconds` and `hours` on all hosts",
            )

    def _ends(self, ends: Sequence[_End]) -> list[object]:
        now = self._clock.now()
        arguments: list[object] = [round(self._shortest * 1e6), len(ends)]
        for each in ends:
            arguments += [
                *(each.id, each.kind),
                *(round((now - each.sent_at) * 1e6), round((now - each.ended_at) * 1e6)),
                round(each.detail * 1e6),
            ]
        return arguments

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
            ends = [self._unreported[i] for i in range(min(_MOST_ENTRIES, len(self._unreported)))]
            await self._step("finish", *self._ends(ends))
            for _ in ends:
                self._unreported.popleft()
            self._forget()
        if self._clock.now() - self._last_step >= _BEAT_SECONDS:
            await self._step("beat")

    async def _return(self) -> None:
        """Join again, and enter what this process has sent in the last window."""
        await self._join()
        self._forget()
        known = [
            _End(name, "open", each.sent_at, each.sent_at, self._timeout)
            if each.ended_at is None
            else _End(name, "past", each.sent_at, each.ended_at)
            for name, each in self._sent.items()
        ]
        for first in range(0, len(known), _MOST_ENTRIES):
            await self._step("finish", *self._ends(known[first : first + _MOST_ENTRIES]))
        await self.returned()
        if self._away_since is not None and self._is_announced:
            away = self._clock.now() - self._away_since
            self.note(f"{self._server.label} is there again after {away:.0f} s")
        self._away_since = None
        self._moved.set()

    def _forget(self) -> None:
        """Forget requests that have ended more than a window ago."""
        oldest = self._clock.now() - 2 * self._pacing.per_seconds
        for name in [
            name
            for name, each in self._sent.items()
            if each.ended_at is not None and each.ended_at < oldest
        ]:
            del self._sent[name]

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
