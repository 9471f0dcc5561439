"""The few numbers that a person watches while a run goes on."""

import pytest

from engine.delivery.events import Answered, Divided, Planned, Sent, Settled, Stopping
from engine.delivery.outcome import Accepted, BatchState, Throttled
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
    assert tally.ceiling_use == 0
    tally.fold(Sent(1, 1, 100), 20)
    tally.fold(Settled(1, BatchState.ACCEPTED, 300, None), 21)
    assert tally.uids_per_second(20) == 0  # no time has passed
    assert tally.uids_per_second(30) == 30


def test_the_ceiling_is_measured_to_the_last_request_as_in_the_books() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.fold(Sent(1, 1, 100), 20)
    assert tally.ceiling_use == 1
    tally.fold(Sent(2, 1, 100), 30)
    # The first request is allowed at once, fifty more in ten seconds.
    assert tally.ceiling_use == pytest.approx(2 / 51)
    tally.fold(Settled(1, BatchState.ACCEPTED, 300, None), 40)
    assert tally.ceiling_use == pytest.approx(2 / 51)


def test_the_ceiling_in_full_use_is_one() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    for number in range(11):
        tally.fold(Sent(number, 1, 100), number / 5)
    assert tally.ceiling_use == pytest.approx(1)


def test_the_time_left_is_estimated_by_the_share_read() -> None:
    tally = Tally(requests_allowed_per_second=5, began=0)
    tally.fold(Planned(500), 0)
    assert tally.seconds_left(10, 0.5) is None  # nothing accepted, so no rate
    tally.fold(Sent(1, 1, 100), 0)
    tally.fold(Settled(1, BatchState.ACCEPTED, 100, None), 5)
    assert tally.seconds_left(10, None) is None
    assert tally.seconds_left(10, 0) is None
    assert tally.seconds_left(10, 0.5) == pytest.approx(
        90
    )  # 1,000 in all, 900 to go at 10 a second
    assert tally.seconds_left(10, 1.0) == pytest.approx(40)
