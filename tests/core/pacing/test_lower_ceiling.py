"""A ceiling that turns out lower than configured: the pace steps down, and up again later."""

import asyncio
from dataclasses import dataclass, field

import pytest

from engine.pacing.pacer import KEPT_WINDOWS, Pacer, Turn
from engine.pacing.schedule import SMALLEST_SLACK, PastSend
from engine.pacing.settings import PacingSettings
from simulator.api import SlidingWindow
from virtual_time import START, VirtualClock, run_virtually

SETTINGS = PacingSettings(300, 60)


@dataclass
class LoweredApi:
    """An API that takes `lower` requests in any minute until `lifted_at`, and all of them later.

    It counts what it refuses too.
    """

    lifted_at: float
    lower: int
    accepted: list[float] = field(default_factory=list)
    throttled: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._configured = SlidingWindow(SETTINGS)
        self._lowered = SlidingWindow(PacingSettings(self.lower, 60)) if self.lower else None

    def takes(self, now: float) -> bool:
        is_within_lower = self._lowered is not None and self._lowered.admit(now)
        is_within_ceiling = self._configured.admit(now)
        is_taken = is_within_lower if now < self.lifted_at else is_within_ceiling
        (self.accepted if is_taken else self.throttled).append(now)
        return is_taken


def paced(
    api: LoweredApi, seconds: float, earlier: Pacer | None = None, start: float = START
) -> Pacer:
    async def main() -> Pacer:
        clock = VirtualClock()
        pacer = Pacer(SETTINGS, clock, earlier=earlier)

        async def answer(turn: Turn) -> None:
            is_taken = api.takes(clock.now() - START)
            await asyncio.sleep(0.05)
            if is_taken:
                pacer.answered(turn, accepted=True)
            else:
                pacer.throttled(turn, None)

        answers = []
        while clock.now() - start < seconds:
            await pacer.approach()
            answers.append(asyncio.create_task(answer(await pacer.take_turn())))
        await asyncio.gather(*answers)
        return pacer

    return run_virtually(main, start=start)


@pytest.mark.parametrize("lower", [250, 160])
def test_the_pace_settles_just_below_a_lower_ceiling(lower: int) -> None:
    api = LoweredApi(lifted_at=float("inf"), lower=lower)
    pacer = paced(api, 2400)
    assert pacer.schedule.found == pytest.approx(lower, rel=0.1)
    later = [at for at in api.accepted if at > 600]
    assert len(later) >= 0.85 * lower / 60 * 1800
    # Most of these are the price of trying a higher pace now and then.
    assert len([at for at in api.throttled if at > 600]) <= 0.02 * len(later)


def test_the_pace_comes_back_when_the_ceiling_does() -> None:
    api = LoweredApi(lifted_at=1200, lower=200)
    schedule = paced(api, 4000).schedule
    assert schedule.allowed == SETTINGS.requests
    assert len([at for at in api.accepted if at > 3000]) >= 0.98 * 5 * 1000
    assert not [at for at in api.throttled if at > 1300]
    # A run is told of the lower ceiling only if it was in force.
    assert schedule.found_since(START) == schedule.found
    assert schedule.found_since(START + 3900) is None


def test_a_storm_that_refuses_everything_takes_no_pace_down() -> None:
    api = LoweredApi(lifted_at=1200, lower=0)
    pacer = paced(api, 2000)
    assert pacer.schedule.found is None
    assert pacer.schedule.allowed == SETTINGS.requests


def test_one_429_takes_no_pace_down() -> None:
    pacer = paced(LoweredApi(lifted_at=0, lower=0), 600)
    pacer.schedule.strike(START + 600)
    assert pacer.schedule.found is None
    assert pacer.schedule.allowed == SETTINGS.requests


def test_a_pacer_after_another_keeps_the_lower_ceiling() -> None:
    api = LoweredApi(lifted_at=float("inf"), lower=160)
    first = paced(api, 1200)
    allowed, margin = first.schedule.allowed, first.schedule.margin
    refused = len(api.throttled)
    again = 1200.0 + 900
    second = paced(api, 600, first, start=START + again)
    assert allowed == pytest.approx(160, rel=0.1)
    assert second.schedule.margin == pytest.approx(margin, rel=0.5)
    assert second.schedule.found == pytest.approx(160, rel=0.1)
    # A pacer that knows nothing is refused more often, on the way down.
    known = len(api.throttled) - refused
    unknown = LoweredApi(lifted_at=float("inf"), lower=160)
    paced(unknown, 600)
    assert known < len(unknown.throttled)
    # It sends at the lower pace from the first minute on.
    assert len([at for at in api.throttled if again <= at < again + 60]) <= 3
    assert len([at for at in api.accepted if again <= at < again + 60]) >= 130


def test_what_was_learnt_long_ago_is_not_kept() -> None:
    first = paced(LoweredApi(lifted_at=float("inf"), lower=160), 1200)
    second = paced(LoweredApi(lifted_at=0, lower=0), 60, first, START + 1300 + KEPT_WINDOWS * 60)
    assert second.schedule.allowed == SETTINGS.requests
    assert second.schedule.found is None


def test_a_pacer_after_another_counts_what_others_have_sent_in_between() -> None:
    async def main() -> float:
        clock = VirtualClock()
        first = Pacer(PacingSettings(2, 60), clock)
        first.answered(await first.take_turn())
        await asyncio.sleep(100)
        now = clock.now()
        log = [PastSend(now - 20, now - 19), PastSend(now - 10, now - 10)]
        second = Pacer(PacingSettings(2, 60), clock, log, earlier=first)
        turn = await second.take_turn()
        return turn.sent_at - now

    assert run_virtually(main) == pytest.approx(60 - 19 + 60 * SMALLEST_SLACK, abs=0.01)


def test_a_gate_that_was_closed_stays_closed_for_the_next_pacer() -> None:
    async def main() -> tuple[float, bool]:
        clock = VirtualClock()
        first = Pacer(SETTINGS, clock)
        first.throttled(await first.take_turn(), 30.0)
        closed_at = clock.now()
        turn = await Pacer(SETTINGS, clock, earlier=first).take_turn()
        return turn.sent_at - closed_at, turn.is_probe

    wait, is_probe = run_virtually(main)
    assert wait == pytest.approx(30.0)
    assert is_probe


def test_a_run_is_told_of_a_lower_ceiling_that_is_in_force() -> None:
    lowered = paced(LoweredApi(lifted_at=float("inf"), lower=200), 1200).schedule
    assert lowered.found_since(START + 1200) == lowered.found is not None
