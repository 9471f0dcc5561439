"""The law over changes of the ceiling: each window keeps to the lowest ceiling that it touches."""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.pacer import Pacer
from engine.pacing.schedule import PastSend
from engine.pacing.settings import Hours, PacingSettings
from virtual_time import BOOT_UTC_NS, START, VirtualClock, run_virtually

MINUTE = 60.0
BEGIN = datetime.fromtimestamp(BOOT_UTC_NS / 1e9 + START, UTC)
"""The wall clock at `START`."""


def after(minutes: int) -> time:
    """Return the time of day of the whole minute so long after the start."""
    return (BEGIN + timedelta(minutes=minutes)).time().replace(second=0, microsecond=0)


def at(minutes: int) -> float:
    """Return the same moment as seconds of the loop's clock."""
    moment = (BEGIN + timedelta(minutes=minutes)).replace(second=0, microsecond=0)
    return START + (moment - BEGIN).total_seconds()


def settings_of(
    lengths: Sequence[tuple[int, int]], requests: int, per_seconds: float
) -> PacingSettings:
    """Return settings with consecutive hours of so many minutes and requests each."""
    hours, minute = [], 1
    for minutes, each in lengths:
        hours.append(Hours(after(minute), after(minute + minutes), each))
        minute += minutes
    return PacingSettings(requests, per_seconds, tuple(hours), UTC)


def assert_lawful(settings: PacingSettings, sent: Sequence[float]) -> None:
    """Assert that no window holds more than the lowest ceiling configured for a moment in it."""
    window = settings.per_seconds
    minutes = [at(minute) for minute in range(-10, 90)]
    configured = [
        settings.requests_by_clock((BEGIN + timedelta(seconds=each + 1 - START)).time())
        for each in minutes
    ]
    for place, last in enumerate(sent):
        for first in range(bisect_right(sent, last - window), place + 1):
            # All windows with these requests lie in between, and together they fill it.
            start, end = last - window, sent[first] + window
            touched = configured[bisect_right(minutes, start) - 1 : bisect_right(minutes, end)]
            assert place - first + 1 <= min(touched)


@dataclass
class Night:
    """Runs that share a pacer, which is replaced now and then as after a restart."""

    settings: PacingSettings
    dice: random.Random
    until: float
    refused: float
    sent: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()

    async def live(self, restarts: int) -> None:
        earlier = None
        for number in range(restarts + 1):
            log = [PastSend(each, each) for each in self.sent]
            pacer = Pacer(self.settings, self.clock, log, earlier=earlier)
            end = START + (self.until - START) * (number + 1) / (restarts + 1)
            runs = [asyncio.create_task(self._send(pacer, end)) for _ in range(3)]
            await asyncio.gather(*runs)
            # A process that goes on knows what its last pacer has learnt; another does not.
            earlier = self.dice.choice([None, pacer])

    async def _send(self, pacer: Pacer, end: float) -> None:
        budget = pacer.open_budget()
        while self.clock.now() < end:
            try:
                async with asyncio.timeout_at(end):
                    await pacer.approach()
                    turn = await pacer.take_turn()
            except TimeoutError:
                break
            budget.send(turn.sent_at)
            self.sent.append(turn.sent_at)
            await asyncio.sleep(self.dice.uniform(0, 0.2))
            if self.dice.random() < self.refused:
                pacer.throttled(turn, self.dice.choice([None, 0.0, 3.0]))
            else:
                pacer.answered(turn, accepted=True)
        if budget.spending.used:
            spent = budget.spending
            assert spent.allowed == pytest.approx(spent.used + sum(spent.lost.values()))


steps = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([0, 1, 3, 10, 40])), min_size=1, max_size=5
)


@given(
    steps,
    st.sampled_from([(20, 60.0), (5, 10.0), (30, 7.5), (12, 150.0)]),
    st.integers(0),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([0.0, 0.05]),
)
def test_no_window_exceeds_the_lowest_ceiling_that_it_touches(  # noqa: PLR0913, PLR0917 - one parameter a strategy
    lengths, base, seed, restarts, refused, late
) -> None:
    settings = settings_of(lengths, *base)
    dice = random.Random(seed)
    minutes = 4 + sum(minutes for minutes, _ in lengths)
    night = Night(settings, dice, START + minutes * MINUTE, refused)
    run_virtually(lambda: night.live(restarts), lambda: dice.choice([0.0, late]))
    assert night.sent == sorted(night.sent)
    assert_lawful(settings, night.sent)


def sends_of(settings: PacingSettings, minutes: float, earlier: Pacer | None = None) -> list[float]:
    """Send as fast as the pacer allows, and return when, in seconds from the start."""
    sent: list[float] = []

    async def main() -> None:
        pacer = Pacer(settings, VirtualClock(), earlier=earlier)
        while sent[-1:] < [minutes * MINUTE]:
            turn = await pacer.take_turn()
            pacer.answered(turn, accepted=True)
            sent.append(turn.sent_at - START)

    run_virtually(main)
    return sent


def sent_between(sent: Sequence[float], start: int, end: int) -> list[float]:
    """Return the sends between two whole minutes after the start."""
    return [each for each in sent if at(start) - START <= each < at(end) - START]


@pytest.mark.parametrize(("before", "later"), [(20, 300), (0, 300), (300, 20), (20, 60)])
def test_each_ceiling_is_used_without_a_burst_at_a_change(before: int, later: int) -> None:
    hours = (Hours(after(2), after(12), before), Hours(after(12), after(24), later))
    sent = sends_of(PacingSettings(100, 60, hours, UTC), 22)
    assert len(sent_between(sent, 4, 11)) >= 0.98 * 7 * before
    # What the last window of a higher ceiling has sent is waited for.
    assert len(sent_between(sent, 14, 21)) >= 0.98 * 7 * later
    gaps = [later - sooner for sooner, later in pairwise(sent_between(sent, 10, 15))]
    assert min(gaps) >= 60 / max(before, later) - 1e-6


def test_a_pause_is_told_with_its_end() -> None:
    told: list[datetime] = []

    async def main() -> float:
        settings = PacingSettings(300, 60, (Hours(after(-5), after(3), 0),), UTC)
        pacer = Pacer(settings, VirtualClock())
        await pacer.approach(told.append)
        turn = await pacer.take_turn(told.append)
        assert pacer.paused_seconds == pytest.approx(turn.sent_at - START, abs=0.01)
        return turn.sent_at

    assert run_virtually(main) == pytest.approx(at(3) + 61.2, abs=0.01)
    [until] = set(told)
    assert until.timestamp() == pytest.approx(BOOT_UTC_NS / 1e9 + at(3) + 61.2)


def test_a_lower_ceiling_that_429s_have_shown_stays_in_force_below_that_of_the_hour() -> None:
    async def main() -> tuple[int, int, int]:
        schedule = Pacer(PacingSettings(300, 60), VirtualClock()).schedule
        schedule.ceiling = 100
        for number in range(60):
            schedule.record_acceptance(START + number, START + 59)
        schedule.strike(START + 59)
        schedule.record_acceptance(START + 59, START + 59)
        schedule.strike(START + 60)
        found = []
        for number, schedule.ceiling in enumerate((100, 20, 20, 300)):
            found.append(schedule.allowed)
            schedule.record_acceptance(START, START + 600 * (number + 1))
        return found[0], found[2], found[3]

    in_the_day, at_noon, at_night = run_virtually(main)
    assert 50 <= in_the_day <= 70
    assert at_noon == 20
    # It has been raised once: by what was accepted in the day, not at noon.
    assert at_night == in_the_day + 6


def test_429s_for_requests_of_a_higher_hour_show_no_ceiling_below_that_of_this_hour() -> None:
    async def main() -> tuple[int, int]:
        schedule = Pacer(PacingSettings(300, 60), VirtualClock()).schedule
        schedule.ceiling = 0
        for at_second in (30, 59):
            schedule.record_acceptance(START, START)
            schedule.strike(START + at_second)
        paused = schedule.found
        schedule.ceiling = 300
        return paused or 300, schedule.allowed

    assert run_virtually(main) == (300, 300)
