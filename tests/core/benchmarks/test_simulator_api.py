"""The model of the API: each kind of limit, arrivals in their own order, and the forecast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.settings import PacingSettings
from simulator.api import (
    Api,
    BadHour,
    CellRate,
    FixedWindow,
    Limiter,
    MostInWindow,
    SlidingWindow,
    TokenBucket,
    every_limiter,
)
from simulator.forecast import forecast
from simulator.latency import Trip, slow_between, steady

CEILING = PacingSettings(3, 30)


@pytest.mark.parametrize(
    ("limiter", "arrivals", "admitted"),
    [
        (SlidingWindow(CEILING), [0, 1, 2, 29.9, 30, 60, 60, 60, 60], "yyynnyyyn"),
        (FixedWindow(CEILING), [27, 28, 29, 29.9, 30, 30, 30, 31, 60], "yyynyyyny"),
        (FixedWindow(CEILING, phase=20), [5, 19, 20, 20, 20, 20, 49, 50], "yyyyynny"),
        (TokenBucket(CEILING), [0, 0, 0, 0, 10, 15, 25, 1000, 1000, 1000, 1000], "yyynynyyyyn"),
        (TokenBucket(CEILING, burst=1), [0, 9, 19, 29], "ynyy"),
        (CellRate(CEILING, burst=1), [0, 9, 19, 30], "ynyy"),
        (CellRate(CEILING, burst=2), [0, 0, 0, 9, 21, 40, 40, 40], "yynnyyyn"),
    ],
)
def test_a_limiter_admits(limiter: Limiter, arrivals, admitted) -> None:
    assert "".join("ny"[limiter.admit(at)] for at in arrivals) == admitted


@pytest.mark.parametrize("name", every_limiter(CEILING))
def test_an_exact_pace_at_the_ceiling_is_admitted_by_every_kind(name) -> None:
    ceiling = PacingSettings(300, 60)
    limiter = every_limiter(ceiling, phase=17.3)[name]
    assert all(limiter.admit(number * 0.2 + 1e-9 * number) for number in range(3000))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.1, 50))
def test_the_most_in_a_window_is_counted(moments, per_seconds) -> None:
    window = MostInWindow(per_seconds)
    moments.sort()
    for at in moments:
        window.add(at)
    assert window.most == max(
        sum(1 for other in moments if other <= at and at - other < per_seconds) for at in moments
    )


def test_arrivals_are_judged_in_the_order_they_arrive_in() -> None:
    trips = iter([Trip(5.0, 1.0), Trip(1.0, 1.0), Trip(1.0, 1.0), Trip(0.5, 1.0)])
    api = Api(CEILING, every_limiter(CEILING), lambda _: next(trips))
    first, *others = [api.send(at) for at in (0.0, 1.0, 2.0, 3.0)]
    api.judge_until(3.4)
    assert [arrival.answer for arrival in (first, others[2])] == [None, None]
    api.judge_until(6.0)
    assert [arrival.answer.status for arrival in others] == [200, 200, 200]
    assert first.answer.status == 429
    assert api.refused == {"sliding": 1, "fixed": 1, "bucket": 1, "gcra": 0}
    assert api.most_in_window == 4


def test_a_bad_hour_answers_whatever_the_limit_says() -> None:
    throttled = BadHour(30, 40, 429, {"Retry-After": "7"})
    hours = [BadHour(10, 20, 503), BadHour(20, 30, None), throttled]
    api = Api(CEILING, {}, steady(0), hours)
    arrivals = [api.send(at) for at in (5.0, 10.0, 20.0, 30.0, 40.0)]
    api.judge_until(100.0)
    answers = [arrival.answer for arrival in arrivals]
    assert [answer and answer.status for answer in answers] == [200, 503, None, 429, 200]
    assert answers[3].headers["Retry-After"] == "7"
    assert api.answers == {200: 2, 503: 1, None: 1, 429: 1}


def test_a_slow_stretch_has_its_own_latency() -> None:
    latency = slow_between(10, 20, steady(30), steady(0.1))
    assert [sum(latency(at)) for at in (0, 10, 20)] == [0.1, 30, 0.1]


@pytest.mark.parametrize(
    ("uids", "requests", "least", "most"),
    [
        (1, 1, 0, 0),
        (1000, 1, 0, 0),
        (1001, 2, 0.2, 0.2),
        (301_000, 301, 60 + 1 / 30, 60.6),
        (27_390_000, 27_390, 5477.8 + 91 / 30, 5477.8 + 91 * 0.6),
    ],
)
def test_a_forecast_pays_the_margin_once_a_window(uids, requests, least, most) -> None:
    output = forecast(uids, 1000, PacingSettings(300, 60))
    assert output.requests == requests
    assert output.least_seconds == pytest.approx(least)
    assert output.most_seconds == pytest.approx(most)
