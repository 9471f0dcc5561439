"""The emulator's rate limits, by passed-in times; steps of 1/8 s keep every sum exact."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulator import EmulatorError, LimiterModel, LimitSettings
from engine.emulator.limiters import LimiterDecision, limiter

WINDOWED = [model for model in LimiterModel if model is not LimiterModel.NONE]
STEADY = (LimiterModel.BUCKET, LimiterModel.GCRA)
AN_INSTANT = 1 / 1024
gaps = st.lists(st.integers(0, 40).map(lambda eighths: eighths / 8), min_size=1, max_size=60)


def at(settings: LimitSettings, *times: float) -> list[bool]:
    judge = limiter(settings)
    return [judge.arrive(now).admitted for now in times]


def arrivals(gaps: list[float]) -> list[float]:
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    return times


def most_in_any_window(times: list[float], window: float) -> int:
    return max(
        (sum(1 for other in times if 0 <= time - other < window) for time in times), default=0
    )


@pytest.mark.parametrize(
    ("settings", "times", "admitted"),
    [
        pytest.param(
            LimitSettings(model=LimiterModel.NONE, requests=1, per_seconds=8), [0] * 9, [1] * 9
        ),
        pytest.param(
            LimitSettings(model=LimiterModel.FIXED, requests=2, per_seconds=8),
            [7, 7, 7, 8, 8, 8, 16],
            [1, 1, 0, 1, 1, 0, 1],
            id="fixed lets twice the limit through around a boundary",
        ),
        pytest.param(
            LimitSettings(model=LimiterModel.FIXED, requests=1, per_seconds=8, phase_seconds=3),
            [0, 2, 3, 10, 11],
            [1, 0, 1, 0, 1],
            id="fixed windows start at the phase",
        ),
        pytest.param(
            LimitSettings(requests=2, per_seconds=8, count_throttled=False),
            [7, 7, 8, 14.875, 15, 15, 15],
            [1, 1, 0, 0, 1, 1, 0],
            id="sliding looks back one window; what is a window old is out",
        ),
        pytest.param(
            LimitSettings(requests=2, per_seconds=8),
            [0, 0, 7, 8, 15, 15],
            [1, 1, 0, 1, 1, 0],
            id="sliding counts a throttled request too",
        ),
        pytest.param(
            LimitSettings(model=LimiterModel.BUCKET, requests=2, per_seconds=8),
            [0, 0, 0, 3.875, 8, 16, 16, 16],
            [1, 1, 0, 0, 1, 1, 1, 0],
            id="a bucket starts full; a throttled request takes the fraction",
        ),
        pytest.param(
            LimitSettings(
                model=LimiterModel.BUCKET,
                requests=2,
                per_seconds=8,
                burst=1,
                count_throttled=False,
            ),
            [0, 3.875, 4, 30, 30],
            [1, 0, 1, 1, 0],
            id="a bucket holds no more than its burst",
        ),
        pytest.param(
            LimitSettings(
                model=LimiterModel.GCRA, requests=2, per_seconds=8, count_throttled=False
            ),
            [0, 3.875, 4, 8, 11],
            [1, 0, 1, 1, 0],
            id="gcra wants even spacing",
        ),
        pytest.param(
            LimitSettings(model=LimiterModel.GCRA, requests=2, per_seconds=8, burst=3),
            [0, 0, 0, 0, 3.875, 7.875],
            [1, 1, 1, 0, 0, 1],
            id="gcra allows a burst; a throttled request uses it up",
        ),
    ],
)
def test_what_is_admitted(settings: LimitSettings, times: list[float], admitted: list[int]) -> None:
    assert at(settings, *times) == [bool(one) for one in admitted]


@given(gaps=gaps, requests=st.integers(1, 5), count_throttled=st.booleans())
def test_sliding_never_admits_more_than_the_limit_in_any_window(
    *, gaps: list[float], requests: int, count_throttled: bool
) -> None:
    times = arrivals(gaps)
    settings = LimitSettings(requests=requests, per_seconds=8, count_throttled=count_throttled)
    admitted = [time for time, ok in zip(times, at(settings, *times), strict=True) if ok]
    assert most_in_any_window(admitted, 8) <= requests


@given(gaps, st.integers(1, 5))
def test_a_sliding_limit_refuses_only_when_the_window_is_full(
    gaps: list[float], requests: int
) -> None:
    times = arrivals(gaps)
    verdicts = at(LimitSettings(requests=requests, per_seconds=8), *times)
    for index, admitted in enumerate(verdicts):
        before = sum(1 for time in times[:index] if times[index] - time < 8)
        assert admitted == (before < requests)


@given(gaps=gaps, burst=st.integers(1, 5), count_throttled=st.booleans())
def test_a_bucket_and_gcra_of_one_burst_are_the_same_limit(
    *, gaps: list[float], burst: int, count_throttled: bool
) -> None:
    one, other = (
        limiter(
            LimitSettings(
                model=model,
                requests=8,
                per_seconds=16,
                burst=burst,
                count_throttled=count_throttled,
            )
        )
        for model in STEADY
    )
    for now in arrivals(gaps):
        assert one.arrive(now) == other.arrive(now)


@given(st.sampled_from(WINDOWED), gaps, st.integers(1, 3).map(lambda power: 2**power))
def test_after_the_wait_a_request_is_admitted_and_not_an_instant_before(
    model: LimiterModel, gaps: list[float], requests: int
) -> None:
    settings = LimitSettings(model=model, requests=requests, per_seconds=16)
    times = arrivals(gaps)

    def after_all(extra: float) -> LimiterDecision:
        judge = limiter(settings)
        for now in times:
            last = judge.arrive(now)
        return judge.arrive(times[-1] + last.wait + extra) if extra else last

    last = after_all(0)
    if last.wait:
        assert last.remaining == 0
        assert not after_all(-AN_INSTANT).admitted
        assert after_all(AN_INSTANT).admitted
    else:
        assert last.remaining > 0


@pytest.mark.parametrize("model", WINDOWED)
def test_what_remains_is_what_is_admitted_at_once(model: LimiterModel) -> None:
    settings = LimitSettings(model=model, requests=4, per_seconds=16)
    judge = limiter(settings)
    remaining = judge.arrive(0).remaining
    assert [judge.arrive(0).admitted for _ in range(remaining + 1)] == [True] * remaining + [False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": 0},
        {"per_seconds": 0},
        {"per_seconds": float("nan")},
        {"phase_seconds": -1},
        {"burst": 3},
        {"model": LimiterModel.GCRA, "burst": 0},
    ],
)
def test_settings_that_make_no_limit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EmulatorError):
        LimitSettings(**wrong)
