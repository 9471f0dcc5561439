"""The few numbers that a person watches while a run goes on."""

from datetime import UTC, datetime

import pytest

from engine.delivery.events import (
    Answered,
    Divided,
    Paused,
    Planned,
    Sent,
    Settled,
    Stopping,
    Waiting,
)
from engine.delivery.outcome import Accepted, Throttled
from engine.model.status import BatchState
from engine.report.live_counts import LiveCounts


def test_events_are_counted() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    events = [
        Planned(100),
        Planned(50),
        Sent(1, 1, 2000),
        Answered(1, 1, Throttled(None), 0.1),
        Sent(1, 2, 2000),
        Answered(1, 2, Accepted(), 0.1),
        Settled(1, BatchState.ACCEPTED, 100, None),
        Divided(2, "400"),
        Settled(3, BatchState.REJECTED, 1, "400"),
        Settled(4, BatchState.UNCONFIRMED, 20, "500"),
        Stopping("signal"),
    ]
    for seconds, event in enumerate(events):
        counts.fold(event, seconds)
    assert (counts.planned, counts.sent, counts.throttled) == (150, 2, 1)
    assert (counts.accepted, counts.settled) == (100, 121)
    assert counts.uids[BatchState.REJECTED] == 1
    assert counts.first_sent == 2


def test_rates_are_counted_from_the_first_request_on() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    assert counts.uids_per_second(10) == 0
    assert (counts.ceiling_attempted, counts.ceiling_accepted) == (0, 0)
    counts.fold(Sent(1, 1, 100), 20)
    counts.fold(Settled(1, BatchState.ACCEPTED, 300, None), 21)
    assert counts.uids_per_second(20) == 0  # no time has passed
    assert counts.uids_per_second(30) == 30


def test_the_rate_is_that_of_the_last_minute() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.fold(Sent(1, 1, 100), 0)
    counts.fold(Settled(1, BatchState.ACCEPTED, 6000, None), 1)
    assert counts.uids_per_second(60) == 100
    counts.fold(Settled(2, BatchState.ACCEPTED, 600, None), 600)  # after a long hold
    assert counts.uids_per_second(600) == 10
    assert counts.seconds_left(600, 6700) == pytest.approx(10)


def test_the_ceiling_is_measured_to_the_last_request_as_in_the_accounts() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.fold(Sent(1, 1, 100), 20)
    assert counts.ceiling_attempted == 1
    counts.fold(Sent(2, 1, 100), 30)
    # The first request is allowed at once, fifty more in ten seconds.
    assert counts.ceiling_attempted == pytest.approx(2 / 51)
    assert counts.ceiling_accepted == 0
    counts.fold(Answered(1, 1, Accepted(), 0.1), 40)
    counts.fold(Settled(1, BatchState.ACCEPTED, 300, None), 40)
    assert counts.ceiling_attempted == pytest.approx(2 / 51)
    assert counts.ceiling_accepted == pytest.approx(1 / 51)


def test_a_burst_is_no_more_than_the_whole_ceiling_as_in_the_summary() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    for number in range(3):
        counts.fold(Sent(number, 1, 100), number / 1000)
    assert counts.ceiling_attempted == 1


def test_the_ceiling_in_full_use_is_one() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    for number in range(11):
        counts.fold(Sent(number, 1, 100), number / 5)
    assert counts.ceiling_attempted == pytest.approx(1)


def test_the_time_left_is_that_of_the_uids_left() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.fold(Planned(500), 0)
    assert counts.seconds_left(10, 1000) is None  # nothing accepted, so no rate
    counts.fold(Sent(1, 1, 100), 0)
    counts.fold(Settled(1, BatchState.ACCEPTED, 100, None), 5)
    assert counts.seconds_left(10, None) is None
    assert counts.seconds_left(10, 1000) == pytest.approx(90)  # 900 to go at 10 a second
    assert counts.seconds_left(10, 0) == pytest.approx(40)  # never fewer than are planned


def test_a_run_that_goes_on_counts_what_was_settled_before() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.continue_from(accepted=700, rejected=1)
    counts.fold(Planned(100), 0)
    counts.fold(Sent(1, 1, 100), 0)
    counts.fold(Settled(1, BatchState.ACCEPTED, 100, None), 10)
    assert (counts.planned, counts.accepted, counts.settled) == (801, 800, 801)
    assert counts.uids_per_second(10) == 10  # of this process alone
    assert counts.seconds_left(10, 1001) == pytest.approx(20)


def test_the_time_left_counts_what_waits_for_earlier_changes() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.expect(1000, 0, first=None, held=100, settle_seconds=900)
    counts.fold(Sent(1, 1, 100), 0)
    counts.fold(Settled(1, BatchState.ACCEPTED, 100, None), 10)
    assert counts.seconds_left(10, 1000) == pytest.approx(890 + 10)
    counts.fold(Settled(2, BatchState.ACCEPTED, 800, None), 20)
    counts.fold(Waiting(600, datetime(2026, 11, 27, 2, 15, tzinfo=UTC)), 20)
    assert counts.waits_until == 620
    assert counts.seconds_left(610, 1000) is None  # there is no rate
    counts.fold(Sent(3, 1, 100), 621)
    assert counts.waits_until is None
    counts.fold(Settled(3, BatchState.ACCEPTED, 10, None), 622)
    assert counts.uids_per_second(622) == 10
    assert counts.seconds_left(622, 1000) == pytest.approx(9)


def test_a_part_of_a_plan_ends_full() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.continue_from(accepted=50, rejected=0)
    counts.expect(1000, 0, first=100, held=100, settle_seconds=900)
    assert (counts.whole, counts.settled_at) == (150, None)
    counts.expect(1000, 0, first=5000, held=0, settle_seconds=0)
    assert counts.whole == 1000


def test_a_run_that_takes_the_place_of_another_counts_its_own_alone() -> None:
    counts = LiveCounts(requests_allowed_per_second=5, began=0)
    counts.continue_from(343, 2)
    assert (counts.planned, counts.accepted, counts.settled) == (345, 343, 345)
    counts.fold(Planned(10), 1)
    counts.fold(Settled(1, BatchState.ACCEPTED, 10, None), 2)
    counts.continue_from(0, 0)
    assert (counts.planned, counts.accepted, counts.settled) == (0, 0, 0)
    counts.fold(Planned(100), 3)
    counts.fold(Settled(1, BatchState.ACCEPTED, 100, None), 4)
    assert (counts.planned, counts.accepted) == (100, 100)


def test_a_ceiling_that_varies_by_the_hour_gives_the_share_that_was_sent() -> None:
    counts = LiveCounts(5, 0, allowed_between=lambda start, end: end - start)
    for now in (10, 20):
        counts.fold(Sent(1, 1, 100), now)
    assert counts.ceiling_attempted == 2 / 11


def test_a_pause_by_the_hour_does_not_slow_the_rate() -> None:
    counts = LiveCounts(5, 0)
    counts.fold(Sent(1, 1, 100), 0)
    counts.fold(Settled(1, BatchState.ACCEPTED, 100, None), 1)
    counts.fold(Paused(datetime(2026, 11, 27, 20, tzinfo=UTC)), 10)
    assert counts.uids_per_second(3600) == 0.0
    counts.fold(Sent(2, 1, 100), 3600)
    counts.fold(Settled(2, BatchState.ACCEPTED, 100, None), 3610)
    assert counts.uids_per_second(3610) == 10
