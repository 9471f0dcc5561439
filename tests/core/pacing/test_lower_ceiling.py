"""A ceiling that turns out lower than configured: the pace steps down, and up again later."""

import asyncio
from dataclasses import dataclass, field

import pytest

from engine.pacing.pacer import Pacer, Turn
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


def paced(api: LoweredApi, seconds: float) -> Pacer:
    async def main() -> Pacer:
        clock = VirtualClock()
        pacer = Pacer(SETTINGS, clock)

        async def answer(turn: Turn) -> None:
            is_taken = api.takes(clock.now() - START)
            await asyncio.sleep(0.05)
            if is_taken:
                pacer.answered(turn, accepted=True)
            else:
                pacer.throttled(turn, None)

        answers = []
        while clock.now() - START < seconds:
            await pacer.approach()
            answers.append(asyncio.create_task(answer(await pacer.take_turn())))
        await asyncio.gather(*answers)
        return pacer

    return run_virtually(main)


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
    pacer = paced(api, 4000)
    assert pacer.schedule.allowed == SETTINGS.requests
    assert len([at for at in api.accepted if at > 3000]) >= 0.98 * 5 * 1000
    assert not [at for at in api.throttled if at > 1300]


def test_a_storm_that_refuses_everything_takes_no_pace_down() -> None:
    api = LoweredApi(lifted_at=1200, lower=0)
    pacer = paced(api, 2000)
    assert pacer.schedule.found is None
    assert pacer.schedule.allowed == SETTINGS.requests


def test_one_429_takes_no_pace_down() -> None:
    pacer = paced(LoweredApi(lifted_at=0, lower=0), 600)
    before = pacer.schedule.margin
    pacer.schedule.strike(START + 600)
    assert pacer.schedule.found is None
    assert pacer.schedule.margin > before
