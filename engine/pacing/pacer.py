"""The waiting: turns to send, given one at a time."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from aiolimiter import AsyncLimiter

from engine.clock import Clock
from engine.pacing.budget import Budget, Cause, Spending
from engine.pacing.gate import Gate
from engine.pacing.schedule import Schedule
from engine.pacing.settings import PacingSettings

CATCH_UP = 3
"""Sends that may follow each other at once after a late wake-up: the one due and two missed.

A limit of evenly spaced arrivals with a burst of 5 then still bears jitter of two slots.
"""
NEAR_SECONDS = 1.0
"""How long before its turn a request may take its connection from the pool."""

_HAIR = 1e-9
"""By how much the bucket leaks faster than the ceiling, which the window law keeps.

Rounding else leaves a trace of a request in it when its time has come, and uvloop, whose clock
ticks in whole milliseconds, would poll through the rest of one to release that too.
"""
_LATE_SECONDS = 0.0015
_LATE_SHARE = 1 / 10_000
"""How late a turn may be that waits for the window limit, in seconds and as a share of the window.

uvloop's timers may go off 1.5 ms too early: half a tick of rounding, and one that has begun. The
rest would be rounded to nothing, and polled through.
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """The permission to send one request, and its time."""

    sent_at: float
    is_probe: bool


@dataclass(frozen=True, slots=True)
class PaceRecord:
    """The use of the ceiling, for the accounts."""

    spending: Spending
    found: int | None
    """The ceiling that 429s made the pace step down to last; None if they never did."""
    margin_seconds: float
    """The margin at the end."""

    def since(self, earlier: "PaceRecord") -> "PaceRecord":
        """Return what came after an earlier record of the same pacer."""
        return replace(self, spending=self.spending - earlier.spending)

    def followed_by(self, later: "PaceRecord") -> "PaceRecord":
        """Return what this and a later pacer's record come to."""
        found = self.found if later.found is None else later.found
        return PaceRecord(self.spending + later.spending, found, later.margin_seconds)


class Pacer:
    """Gives turns, one at a time, in the order in which they are asked for.

    Made inside a running event loop, whose time is the clock's. A caller that is cancelled while it
    waits leaves no trace in the log.
    """

    def __init__(
        self,
        settings: PacingSettings,
        clock: Clock,
        log: Iterable[float] = (),
        held_seconds: float = 0.0,
    ) -> None:
        """Go on after the sends in `log`; an earlier 429 closes the gate for `held_seconds`."""
        self._clock = clock
        self.schedule = Schedule(settings, log)
        self.gate = Gate(settings.per_seconds)
        if held_seconds > 0:
            self.gate.throttle(clock.now(), clock.now(), held_seconds)
        self.budget = Budget(settings)
        burst = min(CATCH_UP, settings.requests)
        self.slot_seconds = settings.per_seconds / settings.requests
        """Seconds from one turn to the next at the full pace."""
        self._bucket = AsyncLimiter(burst, burst * self.slot_seconds * (1 - _HAIR))
        self._spare = burst - 1
        self._late_seconds = min(_LATE_SECONDS, settings.per_seconds * _LATE_SHARE)
        self._turn = asyncio.Lock()
        self._gate_moved = asyncio.Event()

    async def approach(self) -> None:
        """Wait until a turn is near: an idle connection is not held through a long wait."""
        while True:
            await self._pass_gate()
            wait = self.schedule.earliest() - self._clock.now() - NEAR_SECONDS
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    async def take_turn(self) -> Turn:
        """Wait until gate, bucket and window limit allow a request; the send is logged."""
        async with self._turn:
            if self._spare:
                # Nothing was missed before the first turn, so there is nothing to catch up.
                await self._bucket.acquire(self._spare)
                self._spare = 0
            margin = await self._wait_for_window()
            # The bucket comes last: a request that it releases is sent at once, or a wait for the
            # window would add one to those that it holds.
            await self._bucket.acquire()
            # A 429 may have closed the gate meanwhile, and the margin may have grown.
            margin = max(margin, await self._wait_for_window())
            now = self._clock.now()
            self.schedule.record_send(now)
            self.budget.send(now, margin)
            return Turn(now, self.gate.let_pass())

    async def _wait_for_window(self) -> float:
        """Wait for gate and window limit; return the margin that was waited for, or 0."""
        margin = 0.0
        while True:
            await self._pass_gate()
            wait = self.schedule.earliest() - self._clock.now()
            if wait <= 0:
                return margin
            margin = self.schedule.margin
            await asyncio.sleep(wait + self._late_seconds)

    async def _pass_gate(self) -> None:
        while True:
            began = self._clock.now()
            self._gate_moved.clear()
            if self.gate.probe_is_out:
                await self._gate_moved.wait()
            elif (wait := self.gate.opens_at - began) > 0:
                await asyncio.sleep(wait)
            else:
                return
            self.budget.wait(Cause.HELD, self._clock.now() - began)

    def record(self) -> PaceRecord:
        """Return the use of the ceiling so far."""
        return PaceRecord(self.budget.spending, self.schedule.found, self.schedule.margin)

    def throttled(self, turn: Turn, retry_after: float | None) -> None:
        """Record a 429: the gate closes for all requests."""
        now = self._clock.now()
        if self.gate.throttle(now, turn.sent_at, retry_after):
            self.schedule.strike(now)
        self._gate_moved.set()

    def answered(self, turn: Turn, *, accepted: bool = False) -> None:
        """Record any other answer."""
        now = self._clock.now()
        self.schedule.record_round_trip(now - turn.sent_at)
        if accepted:
            self.schedule.record_acceptance(turn.sent_at, now)
        self._end_probe(turn, answered=True)

    def unanswered(self, turn: Turn) -> None:
        """Record that no answer came."""
        self._end_probe(turn, answered=False)

    def _end_probe(self, turn: Turn, *, answered: bool) -> None:
        if turn.is_probe and self.gate.probe_is_out:
            self.gate.settle_probe(answered=answered)
            self._gate_moved.set()
