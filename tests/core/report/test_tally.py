"""The few numbers that a person watches while a run goes on."""

import pytest

from engine.delivery.events import Answered, Divided, Planned, Sent, Settled, Stopping, Waiting
from engine.delivery.outcome import Accepted, Throttled
from engine.model.status import BatchState
from engine.report.tally import Tally


def test_events_are_counted() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
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
        tally.fold(event, seconds)
    assert (tally.planned, tally.sent, tally.throttled) == (150, 2, 1)
    assert (tally.accepted, tally.settled) == (100, 121)
    assert tally.uids[BatchState.REJECTED] == 1
    assert tally.first_sent == 2


def test_rates_are_counted_from_the_first_request_on() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    assert tally.uids_per_second(10) == 0
    assert (tally.ceiling_attempted, tally.ceiling_accepted) == (0, 0)
    tally.fold(Sent(1, 1, 100), 20)
    tally.fold(Settled(1, BatchState.ACCEPTED, 300, None), 21)
    assert tally.uids_per_second(20) == 0  # no time has passed
    assert tally.uids_per_second(30) == 30


def test_the_rate_is_that_of_the_last_minute() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.fold(Sent(1, 1, 100), 0)
    tally.fold(Settled(1, BatchState.ACCEPTED, 6000, None), 1)
    assert tally.uids_per_second(60) == 100
    tally.fold(Settled(2, BatchState.ACCEPTED, 600, None), 600)  # after a long hold
    assert tally.uids_per_second(600) == 10
    assert tally.seconds_left(600, 6700) == pytest.approx(10)


def test_the_ceiling_is_measured_to_the_last_request_as_in_the_books() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.fold(Sent(1, 1, 100), 20)
    assert tally.ceiling_attempted == 1
    tally.fold(Sent(2, 1, 100), 30)
    # The first request is allowed at once, fifty more in ten seconds.
    assert tally.ceiling_attempted == pytest.approx(2 / 51)
    assert tally.ceiling_accepted == 0
    tally.fold(Answered(1, 1, Accepted(), 0.1), 40)
    tally.fold(Settled(1, BatchState.ACCEPTED, 300, None), 40)
    assert tally.ceiling_attempted == pytest.approx(2 / 51)
    assert tally.ceiling_accepted == pytest.approx(1 / 51)


def test_the_ceiling_in_full_use_is_one() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    for number in range(11):
        tally.fold(Sent(number, 1, 100), number / 5)
    assert tally.ceiling_attempted == pytest.approx(1)


def test_the_time_left_is_that_of_the_uids_left() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.fold(Planned(500), 0)
    assert tally.seconds_left(10, 1000) is None  # nothing accepted, so no rate
    tally.fold(Sent(1, 1, 100), 0)
    tally.fold(Settled(1, BatchState.ACCEPTED, 100, None), 5)
    assert tally.seconds_left(10, None) is None
    assert tally.seconds_left(10, 1000) == pytest.approx(90)  # 900 to go at 10 a second
    assert tally.seconds_left(10, 0) == pytest.approx(40)  # never fewer than are planned


def test_a_run_that_goes_on_counts_what_was_settled_before() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.continue_from(accepted=700, rejected=1)
    tally.fold(Planned(100), 0)
    tally.fold(Sent(1, 1, 100), 0)
    tally.fold(Settled(1, BatchState.ACCEPTED, 100, None), 10)
    assert (tally.planned, tally.accepted, tally.settled) == (801, 800, 801)
    assert tally.uids_per_second(10) == 10  # of this process alone
    assert tally.seconds_left(10, 1001) == pytest.approx(20)


def test_the_time_left_counts_what_waits_for_earlier_changes() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.expect(1000, 0, first=None, held=100, settle_seconds=900)
    tally.fold(Sent(1, 1, 100), 0)
    tally.fold(Settled(1, BatchState.ACCEPTED, 100, None), 10)
    assert tally.seconds_left(10, 1000) == pytest.approx(890 + 10)
    tally.fold(Settled(2, BatchState.ACCEPTED, 800, None), 20)
    tally.fold(Waiting(600), 20)
    assert tally.waits_until == 620
    assert tally.seconds_left(610, 1000) is None  # nothing tells a rate
    tally.fold(Sent(3, 1, 100), 621)
    assert tally.waits_until is None
    tally.fold(Settled(3, BatchState.ACCEPTED, 10, None), 622)
    assert tally.uids_per_second(622) == 10
    assert tally.seconds_left(622, 1000) == pytest.approx(9)


def test_a_part_of_a_plan_ends_full() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.continue_from(accepted=50, rejected=0)
    tally.expect(1000, 0, first=100, held=100, settle_seconds=900)
    assert (tally.whole, tally.settled_at) == (150, None)
    tally.expect(1000, 0, first=5000, held=0, settle_seconds=0)
    assert tally.whole == 1000


def test_a_run_that_takes_the_place_of_another_counts_its_own_alone() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.continue_from(343, 2)
    assert (tally.planned, tally.accepted, tally.settled) == (345, 343, 345)
    tally.fold(Planned(10), 1)
    tally.fold(Settled(1, BatchState.ACCEPTED, 10, None), 2)
    tally.continue_from(0, 0)
    assert (tally.planned, tally.accepted, tally.settled) == (0, 0, 0)
    tally.fold(Planned(100), 3)
    tally.fold(Settled(1, BatchState.ACCEPTED, 100, None), 4)
    assert (tally.planned, tally.accepted) == (100, 100)
