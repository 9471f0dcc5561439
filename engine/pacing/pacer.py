"""Waits for the ceiling, and grants turns to send one at a time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from engine.clock import Clock
from engine.model.time_of_day import local_time
from engine.pacing.budget import Budget, SharedUse, Spending
from engine.pacing.gate import Gate
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.schedule import PastSend, Schedule
from engine.pacing.settings import PacingSettings
from engine.pacing.slots import Slot, SlotEnd, Slots

CATCH_UP = 3
"""Sends without spacing after a late wake-up: the one that is due and two missed ones.

A limit on evenly spaced arrivals with a burst of 5 then still tolerates jitter of two slots.
"""
KEPT_WINDOWS = 60
"""Windows without a request after which nothing that was learnt from answers is kept."""
NEAR_SECONDS = 1.0
"""How long before its turn a request may take a connection from the pool."""

_HAIR = 1e-9
"""The share by which the bucket leaks faster than the ceiling; the window limit still applies.

Otherwise, rounding leaves a small remainder in the bucket when a request is due. uvloop's clock has
whole milliseconds, so it would poll for the rest of a millisecond until the remainder has leaked.
"""
_LATE_SECONDS = 0.0015
_LATE_SHARE = 1 / 10_000
"""The delay added to a wait for the window limit: at most both `_LATE_SECONDS` and this share.

uvloop's timers may fire 1.5 ms early, due to half a tick of rounding and a tick that has begun. The
remaining wait would be rounded to 0, so the loop would poll. The share is of the window.
"""
_LONGEST_SLEEP_SECONDS = 30.0
"""If the ceiling varies by the hour, the wall clock, which may be set, is read again after this."""

Paused = Callable[[datetime], None]
"""Receives the local time until which the hour allows no request."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The permission to send one request, and the time of the send."""

    sent_at: float
    is_probe: bool
    slot: Slot | None = None
    """The slot of the ceiling that is shared with other hosts, if one is."""

    @property
    def is_by_own_limits(self) -> bool:
        """Whether the gate of this process, and not that of all, has let it pass."""
        return self.slot is None or self.slot.is_alone


@dataclass(frozen=True, slots=True)
class PaceRecord:
    """A run's use of the ceiling, for the accounts; the other values are the workspace's."""

    spending: Spending
    found: int | None
    """The ceiling after the last step down due to 429s; None if none was in force."""
    margin_seconds: float
    """The margin at the end, by `Schedule.margin`."""

    def followed_by(self, later: "PaceRecord") -> "PaceRecord":
        """Return the combined record of this and a later pacer."""
        found = self.found if later.found is None else later.found
        return PaceRecord(self.spending + later.spending, found, later.margin_seconds)


class Pacer:
    """Grants turns one at a time, in the order of the requests for them.

    Must be created inside a running event loop that uses the time of `clock`. A caller that is
    cancelled while it waits is not logged.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the ceiling, what it continues, and who shares it
        self,
        settings: PacingSettings,
        clock: Clock,
        log: Iterable[PastSend] = (),
        held_seconds: float = 0.0,
        earlier: "Pacer | None" = None,
        slots: Slots | None = None,
    ) -> None:
        """Continue after the sends in `log`; close the gate for `held_seconds` (earlier 429).

        What `earlier`, a pacer that sends no more, has learnt from answers is kept, unless it sent
        nothing for `KEPT_WINDOWS`. With `slots`, each request also needs a slot of a ceiling that
        is shared with other hosts, which keeps the gate for all of them.
        """
        self._clock = clock
        now = clock.now()
        oldest = now - KEPT_WINDOWS * settings.per_seconds
        self.schedule: Schedule
        self.gate: Gate
        if earlier is not None and earlier.schedule.last_send >= oldest:
            self.schedule, self.gate = earlier.schedule, earlier.gate
            self.schedule.replace_log(log)
        else:
            self.schedule, self.gate = Schedule(settings, log), Gate(settings.per_seconds)
        if held_seconds > 0:
            self.gate.hold(now, held_seconds)
        self._settings = settings
        self._slots = slots
        self._ceiling = HourlyCeiling(settings)
        self._use = SharedUse()
        self._held_until = self._paused_until = now
        self._follow_hours()
        self._pace = 0
        """The requests in a window by which the bucket leaks; 0 before the first turn."""
        self._late_seconds = min(_LATE_SECONDS, settings.per_seconds * _LATE_SHARE)
        self._turn = asyncio.Lock()
        self._gate_moved = asyncio.Event()
        self._sleepers: set[asyncio.Event] = set()
        """One event for each request that waits for the window limit."""

    @property
    def slot_seconds(self) -> float:
        """Seconds from one turn to the next at the full pace."""
        return self._settings.per_seconds / max(1, self.schedule.ceiling)

    @property
    def paused_seconds(self) -> float:
        """How long requests have waited so far because the hour allows none."""
        return self._use.paused_seconds

    async def approach(self, paused: Paused = lambda _: None) -> None:
        """Wait until shortly before a turn, so that no idle connection is held for long.

        `paused` is called if the hour allows no request.
        """
        await self._wait_for_window(paused, ahead=NEAR_SECONDS)

    async def take_turn(self, paused: Paused = lambda _: None) -> Turn:
        """Wait until gate, bucket and window limit allow a request; log the send.

        `paused` is called if the hour allows no request.
        """
        async with self._turn:
            margin = await self._wait_for_bucket(paused)
            slot = await self._take_slot(paused)
            now = self._clock.now()
            self.schedule.record_send(now)
            # The margin of a window is lost once; its cost is divided among the requests in it.
            self._use.send(margin / self._settings.per_seconds)
            is_probe = self.gate.let_pass() if slot is None or slot.is_alone else slot.is_probe
            return Turn(now, is_probe, slot)

    async def _wait_for_bucket(self, paused: Paused) -> float:
        """Wait until the limits of this process allow a request; return the margin in seconds."""
        await self._follow_pace()
        margin = await self._wait_for_window(paused)
        await self._follow_pace()
        # The bucket comes last, so that a request is sent as soon as the bucket releases it. A
        # wait for the window after it would add to the bucket's burst.
        await self._bucket.acquire()
        # A 429 may have closed the gate in the meantime.
        return max(margin, await self._wait_for_window(paused))

    async def _take_slot(self, paused: Paused) -> Slot | None:
        """Wait for a slot of the ceiling that is shared with other hosts, if one is."""
        if self._slots is None:
            return None
        while True:
            share = self._slots.share
            slot = await self._slots.take(self._requests_now())
            self._use.held_seconds += slot.held_seconds
            self._use.elsewhere += slot.elsewhere
            if not slot.is_alone or self._slots.share == share:
                return slot
            # The others cannot be reached any more: the limits of this process are lower now.
            self._slots.finish(slot, self._clock.now(), SlotEnd.FAILED, 0.0, None)
            await self._wait_for_bucket(paused)

    def _requests_now(self) -> int:
        """Return the ceiling of all processes in force."""
        if not self._settings.hours:
            return self._settings.requests
        return self._ceiling.requests_at(self._utc_ns())

    def _utc_ns(self) -> int:
        """Return the wall clock's time: if the ceiling is shared, that of all hosts."""
        offset_ns = 0 if self._slots is None else self._slots.clock_offset_ns
        return self._clock.stamp().utc_ns + offset_ns

    def _follow_hours(self) -> None:
        """Set the schedule's ceiling to the one in force for this process."""
        if self._settings.hours or self._slots is not None:
            requests = self._requests_now()
            share = 1.0 if self._slots is None else self._slots.share
            self.schedule.ceiling = max(1, int(requests * share)) if requests else 0

    async def _follow_pace(self) -> None:
        """Let the bucket leak at the pace of the ceiling in force, without a burst at a change."""
        pace, is_first = self.schedule.ceiling, not self._pace
        if pace in {0, self._pace}:
            return
        self._pace = pace
        burst = min(CATCH_UP, pace)
        # Commands that only read the ledger import this module, too, and need no bucket.
        from aiolimiter import AsyncLimiter  # noqa: PLC0415 - see above

        self._bucket = AsyncLimiter(burst, burst * self.slot_seconds * (1 - _HAIR))
        # No send was missed before. The first one need not wait; after a change, the next one must.
        if full := burst - 1 if is_first else burst:
            await self._bucket.acquire(full)

    async def _wait_for_window(self, paused: Paused, ahead: float = 0.0) -> float:
        """Wait for the gate, and until `ahead` seconds before the window limit allows a request.

        Returns the margin in seconds if the window limit caused a wait, otherwise 0.
        """
        margin = 0.0
        while True:
            now = self._clock.now()
            if self.gate.is_closed(now):
                await self._wait_at_gate(now)
                continue
            self._follow_hours()
            wait = self.schedule.earliest() - now - ahead
            if wait <= 0:
                return margin
            wait += 0.0 if ahead else self._late_seconds
            if self.schedule.ceiling:
                margin = self.schedule.margin
            if self._settings.hours:
                await self._sleep_by_the_hour(wait, paused)
            else:
                await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, at most until an answer allows an earlier send."""
        woken = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, woken.set)
        self._sleepers.add(woken)
        try:
            await woken.wait()
        finally:
            timer.cancel()
            self._sleepers.discard(woken)

    async def _sleep_by_the_hour(self, seconds: float, paused: Paused) -> None:
        """Sleep, at most until the ceiling in force changes."""
        began, utc_ns = self._clock.now(), self._utc_ns()
        unchanged = (self._ceiling.next_change(utc_ns) - utc_ns) / 1e9 + self._late_seconds
        is_paused = not self.schedule.ceiling
        if is_paused:
            paused(local_time(self._ceiling.resumes_at(utc_ns), self._settings.zone))
        await self._sleep(min(seconds, unchanged, _LONGEST_SLEEP_SECONDS))
        if is_paused:
            # Several requests may wait at once; the time counts once.
            now = self._clock.now()
            self._use.paused_seconds += now - max(began, self._paused_until)
            self._paused_until = now

    def _allowed_between(self, start: float, end: float) -> float:
        settings = self._settings
        if not settings.hours:
            return (end - start) * settings.requests / settings.per_seconds
        now_ns = self._utc_ns()
        start_ns, end_ns = (
            now_ns - round((self._clock.now() - each) * 1e9) for each in (start, end)
        )
        return self._ceiling.allowed_between(start_ns, end_ns)

    async def _wait_at_gate(self, began: float) -> None:
        """Wait until the closed gate may be open."""
        if self.gate.probe_is_out:
            self._gate_moved.clear()
            await self._gate_moved.wait()
        else:
            await asyncio.sleep(self.gate.opens_at - began)
        # Several requests may wait at once; the time counts once.
        now = self._clock.now()
        self._use.held_seconds += now - max(began, self._held_until)
        self._held_until = now

    def open_budget(self) -> Budget:
        """Return the budget of a run; the caller records in it each turn that the run takes."""
        return Budget(self._allowed_between, self._use)

    def record(self, budget: Budget) -> PaceRecord:
        """Return a run's use of the ceiling so far."""
        schedule = self.schedule
        found = schedule.found_since(budget.began)
        if self._slots is not None and self._slots.found is not None:
            found = self._slots.found
        return PaceRecord(budget.spending, found, schedule.margin)

    def throttled(self, turn: Turn, retry_after: float | None) -> None:
        """Record a 429: the gate closes for all requests."""
        now = self._clock.now()
        self._finish(turn, SlotEnd.THROTTLED, retry_after)
        with self._waking():
            self.schedule.record_end(turn.sent_at, now)
            if turn.is_by_own_limits and self.gate.throttle(now, turn.sent_at, retry_after):
                self.schedule.strike(now)
        self._gate_moved.set()

    def answered(self, turn: Turn, *, accepted: bool = False) -> None:
        """Record any other answer."""
        now = self._clock.now()
        with self._waking():
            self.schedule.record_end(turn.sent_at, now, is_accepted=accepted)
            if accepted:
                self.schedule.record_acceptance(turn.sent_at, now)
        self._finish(turn, SlotEnd.ACCEPTED if accepted else SlotEnd.ANSWERED)
        self._end_probe(turn, answered=True)

    def unanswered(self, turn: Turn) -> None:
        """Record that a request has failed: no answer will come."""
        with self._waking():
            self.schedule.record_end(turn.sent_at, self._clock.now())
        self._finish(turn, SlotEnd.FAILED)
        self._end_probe(turn, answered=False)

    def _finish(self, turn: Turn, end: SlotEnd, retry_after: float | None = None) -> None:
        """Report the end of a request to the ceiling that is shared with other hosts."""
        if self._slots is not None and turn.slot is not None:
            self._slots.finish(turn.slot, turn.sent_at, end, self.schedule.shortest, retry_after)

    @contextmanager
    def _waking(self) -> Iterator[None]:
        """Wake the requests that wait for the window limit if it is earlier after the block."""
        before = self.schedule.earliest()
        yield
        if self.schedule.earliest() < before:
            for sleeper in self._sleepers:
                sleeper.set()

    def _end_probe(self, turn: Turn, *, answered: bool) -> None:
        if turn.is_by_own_limits and turn.is_probe and self.gate.probe_is_out:
            self.gate.settle_probe(answered=answered)
            self._gate_moved.set()
