"""The window limit: no window holds more requests than the ceiling, whenever they are counted."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing import schedule as limits
from engine.pacing.schedule import (
    FORGIVING_WINDOWS,
    LARGEST_MARGIN,
    RECENT_ROUND_TRIPS,
    SMALLEST_SLACK,
    TRUSTED_ROUND_TRIPS,
    WIDENING,
    PastSend,
    Schedule,
)
from engine.pacing.settings import PacingSettings

SETTINGS = PacingSettings(requests=3, per_seconds=60)
WINDOW = SETTINGS.per_seconds
SLACK_SECONDS = WINDOW * SMALLEST_SLACK


def trusting(shortest: float, settings: PacingSettings = SETTINGS) -> Schedule:
    """Return a schedule without sends that knows the shortest round trip."""
    schedule = Schedule(settings)
    for _ in range(TRUSTED_ROUND_TRIPS):
        schedule.record_send(0.0)
        schedule.record_end(0.0, shortest, is_accepted=True)
    schedule.replace_log([])
    return schedule


def send(schedule: Schedule, at: float, seconds: float) -> None:
    schedule.record_send(at)
    schedule.record_end(at, at + seconds, is_accepted=True)


def test_a_send_may_go_a_window_after_the_end_of_the_third_before_it() -> None:
    schedule = Schedule(SETTINGS)
    for at in (10.0, 20.0):
        send(schedule, at, 0.5)
        assert schedule.earliest() == -math.inf
        assert schedule.margin == 0
    send(schedule, 30.0, 0.5)
    assert schedule.earliest() == pytest.approx(10.5 + WINDOW + SLACK_SECONDS)
    assert schedule.margin == pytest.approx(0.5 + SLACK_SECONDS)
    send(schedule, 80.0, 0.5)
    assert schedule.earliest() == pytest.approx(20.5 + WINDOW + SLACK_SECONDS)


def test_the_shortest_round_trip_is_no_part_of_an_end_once_it_is_known() -> None:
    schedule = trusting(0.4)
    send(schedule, 10.0, 0.6)
    send(schedule, 20.0, 0.4)
    send(schedule, 30.0, 0.3)  # shorter than all before
    assert schedule.earliest() == pytest.approx(10.3 + WINDOW + SLACK_SECONDS)
    send(schedule, 80.0, 0.3)
    assert schedule.earliest() == pytest.approx(20.1 + WINDOW + SLACK_SECONDS)
    send(schedule, 90.0, 0.3)
    assert schedule.earliest() == pytest.approx(30.0 + WINDOW + SLACK_SECONDS)


def test_too_few_round_trips_show_no_shortest_one() -> None:
    schedule = Schedule(SETTINGS)
    for number in range(TRUSTED_ROUND_TRIPS - 1):
        send(schedule, 100.0 * number, 0.4)
    assert schedule.margin == pytest.approx(0.4 + SLACK_SECONDS)
    send(schedule, 100_000.0, 0.4)
    assert schedule.margin == pytest.approx(SLACK_SECONDS)


def test_a_short_round_trip_is_forgotten_in_the_end() -> None:
    schedule = trusting(0.1)
    for number in range(RECENT_ROUND_TRIPS - 1):
        send(schedule, 100.0 * number, 0.4)
    assert schedule.margin == pytest.approx(0.3 + SLACK_SECONDS)
    send(schedule, 100_000.0, 0.4)
    assert schedule.margin == pytest.approx(SLACK_SECONDS)


@pytest.mark.parametrize("is_accepted", [False, True])
def test_only_the_round_trips_of_acceptances_are_compared(is_accepted) -> None:
    schedule = trusting(0.4)
    for at in (10.0, 20.0, 30.0):
        schedule.record_send(at)
        schedule.record_end(at, at + 0.5, is_accepted=is_accepted)
    assert schedule.margin == pytest.approx((0.1 if is_accepted else 0.5) + SLACK_SECONDS)


def test_a_request_may_be_counted_until_it_ends() -> None:
    schedule = trusting(0.1)
    schedule.record_send(0.0)
    for at in (1.0, 2.0, 3.0):
        send(schedule, at, 0.1)
    # The first one takes the place of one of the others, as long as it is open.
    assert schedule.earliest() == pytest.approx(2 + WINDOW + SLACK_SECONDS)
    schedule.record_end(0.0, 1.5)
    assert schedule.earliest() == pytest.approx(1.5 + WINDOW + SLACK_SECONDS)


def test_open_requests_cost_no_more_than_the_largest_margin() -> None:
    schedule = Schedule(SETTINGS)
    for at in (1.0, 2.0, 3.0):
        schedule.record_send(at)
    assert schedule.margin == WINDOW * LARGEST_MARGIN
    assert schedule.earliest() == 1 + WINDOW * (1 + LARGEST_MARGIN)


def test_an_end_of_a_request_that_the_log_has_instead_is_ignored() -> None:
    schedule = Schedule(SETTINGS)
    schedule.record_send(1.0)
    schedule.replace_log([PastSend(at, at) for at in (1.0, 2.0, 3.0)])
    schedule.record_end(1.0, 50.0, is_accepted=True)
    assert schedule.earliest() == pytest.approx(1 + WINDOW + SLACK_SECONDS)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 5)), max_size=10))
def test_a_log_from_an_earlier_process_counts_in_any_order(log) -> None:
    schedule = Schedule(SETTINGS, [PastSend(at, at + seconds) for at, seconds in log])
    expected = -math.inf
    if len(log) >= 3:
        end = sorted(at + seconds for at, seconds in log)[-3] + SLACK_SECONDS
        sent_at = sorted(at for at, _ in log)[-3]
        expected = min(end, sent_at + WINDOW * LARGEST_MARGIN) + WINDOW
    assert schedule.earliest() == pytest.approx(expected)


@dataclass
class BruteForce:
    """The rule of the module in as few words as possible: it keeps everything for ever."""

    settings: PacingSettings
    sent: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """By the order of the sends; infinity for a request without an end."""
    accepted: list[float] = field(default_factory=list)
    """The round trips of the acceptances."""

    def record_end(self, number: int, now: float, *, is_accepted: bool) -> None:
        if is_accepted:
            self.accepted.append(now - self.sent[number])
        self.ends[number] = now if is_accepted else now + self.shortest

    @property
    def shortest(self) -> float:
        recent = self.accepted[-max(RECENT_ROUND_TRIPS, self.settings.requests) :]
        return min(recent) if len(self.accepted) >= TRUSTED_ROUND_TRIPS else 0.0

    def earliest(self) -> float:
        requests, window = self.settings.requests, self.settings.per_seconds
        if len(self.sent) < requests:
            return -math.inf
        most = self.sent[-requests] + window * limits.LARGEST_MARGIN
        end = sorted(self.ends)[-requests] - self.shortest + window * SMALLEST_SLACK
        return min(end, most) + window


@dataclass(frozen=True)
class Request:
    """What becomes of one request."""

    pause: float
    """Seconds from the earliest possible send to the send."""
    way: float
    """Seconds beyond the shortest way to the API, until it is counted."""
    answer: float
    """Seconds beyond the shortest time from the count to the answer."""
    is_accepted: bool


NONE = (math.inf, 0, False)

requests = st.builds(
    Request,
    st.one_of(st.just(0.0), st.floats(0, 0.5)),
    st.one_of(st.just(0.0), st.floats(0, 2)),
    st.one_of(st.just(0.0), st.floats(0, 3)),
    st.booleans(),
)


@given(
    st.sampled_from([PacingSettings(1, 1), PacingSettings(2, 1), PacingSettings(5, 1)]),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.booleans(),
    st.lists(requests, min_size=10, max_size=60),
)
def test_no_window_exceeds_the_ceiling_whenever_the_requests_are_counted(
    settings, shortest_way, shortest_answer, knows, sequence
) -> None:
    """Each is counted at any time that its round trip allows; the model has the same limit.

    The cost has no bound here: it would allow a window to exceed the ceiling.
    """
    with patch.object(limits, "LARGEST_MARGIN", 1000):
        assert_lawful(settings, shortest_way, shortest_answer, sequence, knows=knows)


def assert_lawful(
    settings: PacingSettings,
    shortest_way: float,
    shortest_answer: float,
    sequence: Sequence[Request],
    *,
    knows: bool,
) -> None:
    """Send a sequence of requests; assert at each that schedule and model agree, and the law."""
    model = BruteForce(settings)
    schedule = Schedule(settings)
    if knows:
        shortest = shortest_way + shortest_answer
        schedule = trusting(shortest, settings)
        model.accepted = [shortest] * TRUSTED_ROUND_TRIPS
    now: float = 100.0
    counted: list[float] = []
    under_way: list[tuple[float, int, bool]] = []
    for number, request in enumerate(sequence):
        # An answer may make the limit earlier.
        while min(under_way, default=NONE) <= (max(now, schedule.earliest()),):
            ended_at, ended, is_accepted = heapq.heappop(under_way)
            now = max(now, ended_at)
            schedule.record_end(model.sent[ended], ended_at, is_accepted=is_accepted)
            model.record_end(ended, ended_at, is_accepted=is_accepted)
            assert schedule.earliest() == pytest.approx(model.earliest(), abs=1e-9)
        now = max(now, schedule.earliest())
        now += request.pause
        model.sent.append(now)
        model.ends.append(math.inf)
        schedule.record_send(now)
        counted.append(now + shortest_way + request.way)
        answer = shortest_answer + request.answer
        heapq.heappush(under_way, (counted[-1] + answer, number, request.is_accepted))
    assert_within(settings, counted)


def assert_within(settings: PacingSettings, counted: Sequence[float]) -> None:
    """Assert that no window holds more than the ceiling."""
    moments = sorted(counted)
    for first, last in zip(moments, moments[settings.requests :], strict=False):
        assert last - first >= settings.per_seconds - 1e-9


@given(st.lists(st.sampled_from(["send", "end", "accept", "429"]), max_size=80))
def test_the_margin_stays_within_its_bounds(events) -> None:
    schedule, now = Schedule(SETTINGS), 0.0
    under_way: list[float] = []
    for event in events:
        now += 1.0
        match event:
            case "send":
                now = max(now, schedule.earliest())
                schedule.record_send(now)
                under_way.append(now)
            case "429":
                schedule.strike(now)
            case _ if under_way:
                schedule.record_end(under_way.pop(0), now, is_accepted=event == "accept")
        assert 0 <= schedule.margin <= WINDOW * LARGEST_MARGIN


def test_a_429_widens_the_slack_until_it_is_forgiven() -> None:
    schedule = Schedule(PacingSettings(1, 60))
    send(schedule, 0.0, 0.0)
    margins = [schedule.margin]
    for _ in range(5):
        schedule.strike(0.0)
        margins.append(schedule.margin)
    widening = WINDOW * WIDENING
    steps = [SLACK_SECONDS + count * widening for count in range(4)]
    assert margins == pytest.approx([*steps, WINDOW * LARGEST_MARGIN, WINDOW * LARGEST_MARGIN])
    for number in range(5):
        schedule.record_acceptance(0.0, WINDOW * FORGIVING_WINDOWS * (number + 1))
    assert schedule.margin == pytest.approx(SLACK_SECONDS)
