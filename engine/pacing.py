"""The ceiling: the arithmetic of it (`Schedule`, `Gate`) and the waiting (`Pacer`).

aiolimiter's leaky bucket gives the pace: it leaks `requests` per `per_seconds` and holds a handful,
so that a wake-up that comes late is caught up at once. By itself it would let a full bucket through
on top of a window's worth, after every start and every pause. The law around it is a log of send
times: a send may go when the `requests`-th before it lies a window and a margin back. The log is
the ledger's attempts, so a restart goes on inside it.

The margin pays for jitter on the way in, which compresses what the server sees. The spread of the
round trips is the most that the way in can have; it is taken, up to 1 % of the window, and a 429
that comes although the law was kept widens it further.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from aiolimiter import AsyncLimiter
from annotated_types import Ge, Gt

from engine.clock import Clock

CATCH_UP = 4
"""Sends that may follow each other at once after a late wake-up: the one due and three missed."""
LARGEST_MARGIN = 1 / 100
"""The most that round trips alone can widen the margin to, as a share of the window."""
SMALLEST_MARGIN = 1 / 1200
"""What the margin never falls below, as a share of the window: 50 ms of a minute."""
WIDEST_MARGIN = 2 / 100
"""The margin's bound after any number of 429s, as a share of the window."""
TRUSTED_ROUND_TRIPS = 20
"""Round trips to be seen before their spread is believed; until then the largest margin holds."""
NEAR_SECONDS = 1.0
"""How long before its turn a request may take its connection from the pool."""
LONGEST_HOLD_SECONDS = 600.0
"""A Retry-After beyond this is cut to it: a probe then asks again, at the price of one request."""


@dataclass(frozen=True, slots=True)
class PacingSettings:
    """The API's ceiling: `requests` in any `per_seconds`, for the whole workspace."""

    requests: Annotated[int, Ge(1)] = 300
    per_seconds: Annotated[float, Gt(0)] = 60.0


class Schedule:
    """The window law over a log of send times; pure arithmetic, times are seconds of one clock."""

    def __init__(self, settings: PacingSettings, log: Iterable[float] = ()) -> None:
        self._settings = settings
        self._log: deque[float] = deque(sorted(log), maxlen=settings.requests)
        self._round_trips: deque[float] = deque(maxlen=max(settings.requests, TRUSTED_ROUND_TRIPS))
        self._widened = 0.0

    @property
    def margin(self) -> float:
        """Seconds by which the window is stretched at present."""
        window = self._settings.per_seconds
        largest = window * LARGEST_MARGIN
        if len(self._round_trips) < TRUSTED_ROUND_TRIPS:
            spread = largest
        else:
            spread = max(self._round_trips) - min(self._round_trips)
        return min(max(spread, window * SMALLEST_MARGIN), largest) + self._widened

    def earliest(self) -> float:
        """Return the time from which the next send keeps the law; minus infinity if any does."""
        if len(self._log) < self._settings.requests:
            return float("-inf")
        return self._log[0] + self._settings.per_seconds + self.margin

    def record_send(self, at: float) -> None:
        """Enter a send into the log."""
        self._log.append(at)

    def record_round_trip(self, seconds: float) -> None:
        """Learn from an answer how much the way there and back varies."""
        self._round_trips.append(seconds)

    def widen(self) -> None:
        """Stretch the window: the API counted more than the log does."""
        window = self._settings.per_seconds
        step = window * LARGEST_MARGIN / 2
        self._widened = min(self._widened + step, window * (WIDEST_MARGIN - LARGEST_MARGIN))


class Gate:
    """Whether anyone may send: closed by a 429 for a while, then ajar for one probe, then open."""

    def __init__(self, per_seconds: float) -> None:
        self._per_seconds = per_seconds
        self._closed_at = float("-inf")
        self._opens_at = float("-inf")
        self._probe_due = False
        self._probe_out = False
        self._strikes = 0

    @property
    def probe_is_out(self) -> bool:
        """Whether a probe is on its way; until it is answered nobody else may send."""
        return self._probe_out

    @property
    def opens_at(self) -> float:
        """From when on a send may pass, unless a probe is out."""
        return self._opens_at

    def let_pass(self) -> bool:
        """Let one send through; true if it is the probe."""
        self._probe_out = self._probe_due
        self._probe_due = False
        return self._probe_out

    def throttle(self, now: float, sent_at: float, retry_after: float | None) -> bool:
        """Close after a 429 for `retry_after` seconds, or for as long as backoff says.

        Returns whether this 429 is news: requests that left before the gate closed were bound to
        meet the same answer, and neither raise the backoff nor tell anything about the margin.
        """
        is_news = sent_at >= self._closed_at
        if is_news:
            self._strikes += 1
            self._closed_at = now
        backoff = min(self._per_seconds, 2.0 ** min(max(self._strikes - 1, 0), 30))
        hold = backoff if retry_after is None else min(retry_after, LONGEST_HOLD_SECONDS)
        self._opens_at = max(self._opens_at, now + hold)
        self._probe_due, self._probe_out = True, False
        return is_news

    def settle_probe(self, *, answered: bool) -> None:
        """Open after a probe that was answered with anything but a 429; else send another one."""
        self._probe_out = False
        self._probe_due = not answered
        if answered:
            self._strikes = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """The leave to send one request, and when it was given."""

    sent_at: float
    is_probe: bool


class Pacer:
    """Gives turns, one at a time, in the order in which they are asked for.

    Made inside a running event loop, whose time is the clock's. A caller that is cancelled while it
    waits leaves no trace in the log.
    """

    def __init__(self, settings: PacingSettings, clock: Clock, log: Iterable[float] = ()) -> None:
        self._clock = clock
        self.schedule = Schedule(settings, log)
        self.gate = Gate(settings.per_seconds)
        burst = min(CATCH_UP, settings.requests)
        self._bucket = AsyncLimiter(burst, burst * settings.per_seconds / settings.requests)
        self._spare = burst - 1
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
        """Wait until the gate, the bucket and the window law all agree; the send is logged."""
        async with self._turn:
            if self._spare:
                # Nothing was missed before the first turn, so there is nothing to catch up.
                await self._bucket.acquire(self._spare)
                self._spare = 0
            await self._pass_gate()
            await self._bucket.acquire()
            while True:
                # A 429 may close the gate during either wait, and the margin may grow.
                await self._pass_gate()
                now = self._clock.now()
                if (wait := self.schedule.earliest() - now) <= 0:
                    break
                await asyncio.sleep(wait)
            self.schedule.record_send(now)
            return Turn(now, self.gate.let_pass())

    async def _pass_gate(self) -> None:
        while True:
            self._gate_moved.clear()
            if self.gate.probe_is_out:
                await self._gate_moved.wait()
            elif (wait := self.gate.opens_at - self._clock.now()) > 0:
                await asyncio.sleep(wait)
            else:
                return

    def throttled(self, turn: Turn, retry_after: float | None) -> None:
        """Hear of a 429: the gate closes for everyone."""
        now = self._clock.now()
        if self.gate.throttle(now, turn.sent_at, retry_after):
            self.schedule.widen()
        self._gate_moved.set()

    def answered(self, turn: Turn) -> None:
        """Hear of any other answer."""
        self.schedule.record_round_trip(self._clock.now() - turn.sent_at)
        self._end_probe(turn, answered=True)

    def unanswered(self, turn: Turn) -> None:
        """Hear that no answer came."""
        self._end_probe(turn, answered=False)

    def _end_probe(self, turn: Turn, *, answered: bool) -> None:
        if turn.is_probe and self.gate.probe_is_out:
            self.gate.settle_probe(answered=answered)
            self._gate_moved.set()
