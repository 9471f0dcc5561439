"""How old a moment is, whatever became of the clocks since."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import Stamp, SystemClock

SECOND = 1_000_000_000
stamps = st.builds(
    Stamp,
    st.sampled_from(["", "boot-1", "boot-2"]),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
)


@pytest.mark.parametrize(
    ("then", "now", "age"),
    [
        (Stamp("a", 5 * SECOND, 100 * SECOND), Stamp("a", 7 * SECOND, 102 * SECOND), 2),
        # Within a boot the wall clock is not asked: stepped ahead, stepped back.
        (Stamp("a", 5 * SECOND, 100 * SECOND), Stamp("a", 7 * SECOND, 9000 * SECOND), 2),
        (Stamp("a", 5 * SECOND, 100 * SECOND), Stamp("a", 7 * SECOND, 1 * SECOND), 2),
        # Across boots only the wall clock is left, and what lies ahead of it counts as now.
        (Stamp("a", 5 * SECOND, 100 * SECOND), Stamp("b", 1 * SECOND, 130 * SECOND), 30),
        (Stamp("a", 5 * SECOND, 100 * SECOND), Stamp("b", 900 * SECOND, 40 * SECOND), 0),
        # Where the system names no boot, two boots can't be distinguished.
        (Stamp("", 5 * SECOND, 100 * SECOND), Stamp("", 900 * SECOND, 103 * SECOND), 3),
    ],
)
def test_age(then, now, age) -> None:
    assert then.age_at(now) == age


@given(stamps, stamps)
def test_no_moment_is_younger_than_now(then, now) -> None:
    assert then.age_at(now) >= 0


@given(stamps, st.integers(0, 10**15))
def test_within_a_boot_the_age_is_what_has_passed(then, passed) -> None:
    later = Stamp(then.boot_id, then.boot_ns + passed, then.utc_ns + passed)
    assert then.age_at(later) == pytest.approx(passed / SECOND)


def test_the_systems_clock_shows_this_boot_and_never_goes_back() -> None:
    clock = SystemClock()
    first, then = clock.stamp(), clock.now()
    second, now = clock.stamp(), clock.now()
    assert second.boot_ns >= first.boot_ns
    assert now >= then
    assert first.boot_id == second.boot_id
    assert first.age_at(second) >= 0
    assert abs(first.utc_ns - time.time_ns()) < 3600 * SECOND


def test_without_a_boot_id_the_wall_clock_tells(monkeypatch) -> None:
    monkeypatch.setattr("engine.clock._boot_id", lambda: "")
    assert SystemClock().stamp().boot_id == ""
