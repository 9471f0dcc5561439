"""Requests in intervals: their sums, percentiles, and the times in words."""

from collections import Counter
from datetime import UTC, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger.period_records import RequestCount, SendingPeriod
from engine.pacing.settings import Hours, PacingSettings
from engine.report.accounts import CeilingSpending
from engine.report.formats import duration
from engine.report.requests import Answer, Interval, spending_together
from period_reports import workspace

SECOND = 1_000_000_000


@given(
    st.lists(st.integers(0, 20_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 1.0])
)
def test_a_percentile_is_the_least_latency_that_covers_the_share(values, share) -> None:
    found = Interval(latencies=Counter(values)).milliseconds(share)
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


@pytest.mark.parametrize("most", [1, 2, 7, 32, 90, 96])
def test_coarser_intervals_hold_the_same_requests(most: int) -> None:
    fine = workspace("W")
    coarse = fine.coarser(most)
    assert len(coarse.intervals) <= most
    assert coarse.total == fine.total
    assert coarse.allowed_each / coarse.interval_seconds == pytest.approx(5.0)


def test_a_run_alone_has_used_the_ceiling_as_its_accounts_say() -> None:
    spending = CeilingSpending(allowed=501, used=450, held=30, margin=25, late=-4)
    found = spending_together([spending], [SendingPeriod(0, 100 * SECOND, 300, 60, "")])
    assert found == spending


def test_what_is_lost_while_several_runs_send_is_lost_once() -> None:
    # Three runs at once send 400 of the 501 requests that are allowed in 100 s.
    runs = [
        CeilingSpending(501, 200, other_runs=200, held=101),
        CeilingSpending(501, 100, other_runs=300, held=101),
        CeilingSpending(501, 100, other_runs=300, held=50.5, input=50.5),
    ]
    periods = [SendingPeriod(0, 100 * SECOND, 300, 60, "")] * 3
    found = spending_together(runs, periods)
    assert (found.allowed, found.used, found.other_runs) == (501, 400, 0)
    assert found.held + found.input == pytest.approx(101)
    assert found.held == pytest.approx(5 * found.input, abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_each_second_at_which_a_run_sends_counts_once(spans) -> None:
    periods = [SendingPeriod(min(span) * SECOND, max(span) * SECOND, 300, 60, "") for span in spans]
    seconds = {second for span in spans for second in range(min(span), max(span))}
    separate = 1 + sum(
        1
        for begin in {min(span) for span in spans} - {min(min(span) for span in spans)}
        if not any(min(other) < begin <= max(other) for other in spans)
    )
    found = spending_together([CeilingSpending()], periods)
    assert found.allowed == pytest.approx(separate + 5 * len(seconds))


def test_what_is_allowed_is_by_the_hours_of_each_process() -> None:
    settings = PacingSettings(300, 60, (Hours(time(0), time(0, 30), 60),), UTC)
    hours = settings.hours_record()
    periods = [SendingPeriod(0, 1200 * SECOND, 300, 60, hours)]
    assert spending_together([CeilingSpending()], periods).allowed == pytest.approx(1201)
    later = [SendingPeriod(3600 * SECOND, 3700 * SECOND, 300, 60, hours)]
    assert spending_together([CeilingSpending()], later).allowed == pytest.approx(501)


def test_a_use_of_no_requests_is_none() -> None:
    assert spending_together([], []) == CeilingSpending()


@pytest.mark.parametrize(
    ("outcome", "status", "answer"),
    [
        ("accepted", 200, Answer.ACCEPTED),
        ("throttled", 429, Answer.THROTTLED),
        ("rejected", 400, Answer.REFUSED),
        ("fatal", 401, Answer.REFUSED),
        ("too_large", 413, Answer.REFUSED),
        ("unconfirmed", 503, Answer.SERVER_ERROR),
        ("unconfirmed", 200, Answer.SERVER_ERROR),
        ("unconfirmed", None, Answer.NONE),
        ("not_sent", None, Answer.NONE),
        (None, None, Answer.NONE),
    ],
)
def test_each_outcome_is_one_kind_of_answer(outcome, status, answer) -> None:
    interval = Interval()
    interval.count(RequestCount(0, outcome, status, 5 if status else None, 3))
    assert interval.answers == {answer: 3}
    assert interval.latencies == ({5: 3} if status else {})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (2.04, "2 s"),
        (2.44, "2.4 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (483, "8 min 3 s"),
        (4321, "1 h 12 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
