"""The gate: what one 429 means for everyone else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.gate import LONGEST_HOLD_SECONDS, Gate

WINDOW = 60.0


def closed_gate(retry_after: float | None = None) -> Gate:
    gate = Gate(WINDOW)
    gate.throttle(now=100, sent_at=99, retry_after=retry_after)
    return gate


def test_a_gate_that_heard_no_429_is_open() -> None:
    gate = Gate(WINDOW)
    assert gate.opens_at == float("-inf")
    assert not gate.let_pass()
    assert not gate.probe_is_out


@pytest.mark.parametrize(
    ("retry_after", "hold"),
    [(None, 1.0), (0.0, 0.0), (7.5, 7.5), (90.0, 90.0), (1e12, LONGEST_HOLD_SECONDS)],
)
def test_it_closes_for_as_long_as_the_answer_asks_up_to_a_cap(retry_after, hold) -> None:
    assert closed_gate(retry_after).opens_at == 100 + hold


def test_without_a_wait_in_the_answer_the_hold_doubles_up_to_a_window() -> None:
    gate = Gate(WINDOW)
    now, holds = 0.0, []
    for _ in range(40):
        gate.throttle(now, sent_at=now, retry_after=None)
        holds.append(gate.opens_at - now)
        now = gate.opens_at
        assert gate.let_pass()
    assert holds == [1, 2, 4, 8, 16, 32] + [WINDOW] * 34


def test_a_window_under_a_second_is_the_longest_hold() -> None:
    gate = Gate(0.25)
    gate.throttle(10, sent_at=10, retry_after=None)
    assert gate.opens_at == 10.25


def test_the_first_one_through_is_the_probe_and_only_that() -> None:
    gate = closed_gate()
    assert gate.let_pass()
    assert gate.probe_is_out
    gate.settle_probe(answered=True)
    assert not gate.probe_is_out
    assert not gate.let_pass()


def test_a_lost_probe_is_sent_again() -> None:
    gate = closed_gate()
    gate.let_pass()
    gate.settle_probe(answered=False)
    assert not gate.probe_is_out
    assert gate.let_pass()


def test_an_answered_probe_ends_the_backoff() -> None:
    gate = closed_gate()
    gate.throttle(now=110, sent_at=105, retry_after=None)
    gate.let_pass()
    gate.settle_probe(answered=True)
    gate.throttle(now=200, sent_at=199, retry_after=None)
    assert gate.opens_at == 201


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_429s_of_requests_that_left_before_it_closed_are_no_news(sent) -> None:
    gate = closed_gate()
    for at in sent:
        assert not gate.throttle(now=100.5, sent_at=min(at, 99.9), retry_after=None)
    assert gate.opens_at == 101.5  # as long as the first hold, from the last 429 on


def test_a_late_429_is_never_a_reason_to_open_earlier() -> None:
    gate = closed_gate(retry_after=30)
    gate.throttle(now=101, sent_at=98, retry_after=1)
    assert gate.opens_at == 130


def test_a_late_429_after_the_probe_holds_as_long_as_a_first_one() -> None:
    gate = closed_gate()
    gate.let_pass()
    gate.settle_probe(answered=True)
    assert not gate.throttle(now=102, sent_at=99, retry_after=None)
    assert gate.opens_at == 103
