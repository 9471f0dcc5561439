"""The window law's arithmetic, and the margin that pays for jitter on the way in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.schedule import (
    LARGEST_MARGIN,
    SMALLEST_MARGIN,
    TRUSTED_ROUND_TRIPS,
    WIDEST_MARGIN,
    Schedule,
)
from engine.pacing.settings import PacingSettings

SETTINGS = PacingSettings(requests=3, per_seconds=60)
WINDOW = SETTINGS.per_seconds


def test_a_send_may_go_a_window_and_a_margin_after_the_last_but_requests() -> None:
    schedule = Schedule(SETTINGS)
    for at in (10.0, 20.0):
        schedule.record_send(at)
        assert schedule.earliest() == float("-inf")
    schedule.record_send(30.0)
    assert schedule.earliest() == 10 + WINDOW + schedule.margin
    schedule.record_send(80.0)
    assert schedule.earliest() == 20 + WINDOW + schedule.margin


@given(st.lists(st.floats(0, 1000), max_size=10))
def test_a_log_from_an_earlier_process_counts_in_any_order(log) -> None:
    schedule = Schedule(SETTINGS, log)
    third_last = sorted(log)[-3] if len(log) >= 3 else None
    expected = float("-inf") if third_last is None else third_last + WINDOW + schedule.margin
    assert schedule.earliest() == expected


def test_the_largest_margin_holds_until_enough_round_trips_are_seen() -> None:
    schedule = Schedule(SETTINGS)
    for _ in range(TRUSTED_ROUND_TRIPS - 1):
        schedule.record_round_trip(0.1)
        assert schedule.margin == WINDOW * LARGEST_MARGIN
    schedule.record_round_trip(0.1)
    assert schedule.margin == WINDOW * SMALLEST_MARGIN


def margin_after(round_trips: list[float]) -> float:
    schedule = Schedule(SETTINGS)
    for seconds in round_trips:
        schedule.record_round_trip(seconds)
    return schedule.margin


@pytest.mark.parametrize(
    ("slowest", "margin"),
    [(0.1, WINDOW * SMALLEST_MARGIN), (0.4, 0.45), (5.0, WINDOW * LARGEST_MARGIN)],
)
def test_the_margin_is_the_spread_of_the_round_trips_within_its_bounds(slowest, margin) -> None:
    assert margin_after([0.1] * TRUSTED_ROUND_TRIPS + [slowest]) == pytest.approx(margin)


def test_a_slow_round_trip_is_forgotten_in_the_end() -> None:
    assert margin_after([9.0] + [0.1] * max(SETTINGS.requests, TRUSTED_ROUND_TRIPS)) == (
        WINDOW * SMALLEST_MARGIN
    )


@given(st.lists(st.sampled_from(["round trip", "429"]), max_size=60), st.floats(0.001, 100))
def test_the_margin_stays_within_its_bounds(events, slowest) -> None:
    schedule = Schedule(SETTINGS)
    before = schedule.margin
    for number, event in enumerate(events):
        if event == "429":
            schedule.strike(0.0)
            assert schedule.margin >= before
        else:
            schedule.record_round_trip(slowest * (number % 2))
        before = schedule.margin
        assert WINDOW * SMALLEST_MARGIN <= before <= WINDOW * WIDEST_MARGIN + 1e-9
