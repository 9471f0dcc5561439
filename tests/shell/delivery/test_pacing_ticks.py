"""Under uvloop, whose clock ticks in whole milliseconds, waits for a turn are slept through."""

import sys

import pytest
import uvloop

from engine.clock import SystemClock
from engine.pacing.pacer import Pacer
from engine.pacing.schedule import PastSend
from engine.pacing.settings import PacingSettings

SLOT_SECONDS = 0.05
TURNS = 20
MOST_CALLS = 150
"""Calls of Python functions a turn: 60 are enough, and who spins for a tick makes 500."""


async def calls_a_turn(settings: PacingSettings, *, window_is_full: bool) -> float:
    clock = SystemClock()
    now = clock.now()
    full = [now - settings.per_seconds + SLOT_SECONDS * n for n in range(settings.requests)]
    log = [PastSend(at, at) for at in full if window_is_full]
    pacer = Pacer(settings, clock, log)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    for _ in range(TURNS):
        sys.setprofile(count)
        turn = await pacer.take_turn()
        sys.setprofile(None)
        pacer.answered(turn, accepted=True)
    return calls / TURNS


@pytest.mark.parametrize("window_is_full", [False, True], ids=["bucket", "window law"])
def test_nobody_spins_through_the_rest_of_a_tick(window_is_full) -> None:
    settings = PacingSettings(300, 300 * SLOT_SECONDS)
    assert uvloop.run(calls_a_turn(settings, window_is_full=window_is_full)) < MOST_CALLS
