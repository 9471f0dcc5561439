"""From an outcome to a decision, as a table, and the waits between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.delivery.decision import Abort, Decision, RetryAfter, Settle, Split, decide
from engine.delivery.outcome import (
    Accepted,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
    kind_of,
    may_have_been_applied,
    reason_of,
)
from engine.delivery.retry import RetrySettings, backoff
from engine.errors import ExitStatus
from engine.model.status import BatchState

SETTINGS = RetrySettings(max_attempts=3, backoff_seconds=2, backoff_cap_seconds=10)

outcomes = st.one_of(
    st.builds(Accepted),
    st.builds(Throttled, st.none() | st.floats(0, 1e9), st.booleans()),
    st.builds(NotSent, st.just("why"), st.booleans()),
    st.builds(Unconfirmed, st.just("why")),
    st.builds(Rejected, st.just("why"), st.booleans()),
    st.builds(TooLarge, st.just("why"), st.booleans()),
    st.builds(
        Fatal,
        st.just("why"),
        st.just("how"),
        st.booleans(),
        st.sampled_from([ExitStatus.REFUSED, ExitStatus.USAGE]),
    ),
)


def decided(
    outcome: Outcome, uid_count: int = 100, failures: int = 1, jitter: float = 0.5
) -> Decision:
    return decide(outcome, uid_count=uid_count, failures=failures, jitter=jitter, settings=SETTINGS)


@pytest.mark.parametrize(
    ("outcome", "uid_count", "failures", "decision"),
    [
        (Accepted(), 100, 1, Settle(BatchState.ACCEPTED)),
        (Accepted(), 100, 99, Settle(BatchState.ACCEPTED)),
        # The gate waits, not the batch; and it uses up no attempt.
        (Throttled(None), 100, 1, RetryAfter(0)),
        (Throttled(600), 100, 99, RetryAfter(0)),
        (Unconfirmed("x"), 100, 1, RetryAfter(1)),
        (Unconfirmed("x"), 100, 2, RetryAfter(2)),
        (Unconfirmed("x"), 100, 3, Settle(BatchState.UNCONFIRMED, "x")),
        (Unconfirmed("x"), 1, 4, Settle(BatchState.UNCONFIRMED, "x")),
        # What was never sent can't be unconfirmed: the outage ends the run, not the batch.
        (NotSent("x"), 100, 1, RetryAfter(1)),
        (NotSent("x"), 100, 3, RetryAfter(4)),
        (NotSent("x"), 100, 99, RetryAfter(5)),
        (Rejected("x", names_members=True), 2, 1, Split()),
        (Rejected("x", names_members=False), 2, 1, Split()),
        (Rejected("x", names_members=True), 1, 1, Settle(BatchState.REJECTED, "x")),
        (Rejected("x", names_members=False), 1, 1, Settle(BatchState.REJECTED, "x")),
        (TooLarge("x"), 2, 1, Split()),
        (TooLarge("x"), 1, 1, Settle(BatchState.REJECTED, "x")),
        (Fatal("x", "y"), 100, 1, Abort("x", "y")),
        (Fatal("x", "y", may_have_been_applied=True), 1, 99, Abort("x", "y")),
        (Fatal("x", "y", exit_status=ExitStatus.USAGE), 9, 1, Abort("x", "y", ExitStatus.USAGE)),
    ],
)
def test_what_an_outcome_leads_to(outcome, uid_count, failures, decision) -> None:
    assert decided(outcome, uid_count, failures) == decision


@given(outcomes, st.integers(1, 10**6), st.integers(1, 1000), st.floats(0, 0.999))
def test_every_outcome_leads_somewhere(outcome, uid_count, failures, jitter) -> None:
    decision = decided(outcome, uid_count, failures, jitter)
    assert isinstance(decision, Settle | RetryAfter | Split | Abort)
    if uid_count == 1:
        assert not isinstance(decision, Split)
    if isinstance(decision, Settle) and decision.state is BatchState.ACCEPTED:
        assert isinstance(outcome, Accepted)


@given(
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.001, 100),
    st.floats(0.001, 1000),
)
def test_a_wait_is_never_negative_and_never_beyond_the_cap(failures, jitter, first, cap) -> None:
    settings = RetrySettings(backoff_seconds=first, backoff_cap_seconds=cap)
    wait = backoff(failures, jitter, settings)
    assert 0 <= wait <= min(cap, first * 2.0 ** min(failures - 1, 60))
    assert backoff(failures + 1, jitter, settings) >= wait


def test_waits_double_up_to_the_cap_and_jitter_picks_within() -> None:
    assert [backoff(n, 1.0, SETTINGS) for n in range(1, 6)] == [2, 4, 8, 10, 10]
    assert [backoff(3, jitter, SETTINGS) for jitter in (0, 0.25, 0.5)] == [0, 2, 4]


@given(outcomes)
def test_outcomes_have_a_name_a_reason_and_tell_what_may_have_been_applied(outcome) -> None:
    names = {"accepted", "throttled", "not_sent", "unconfirmed", "rejected", "too_large", "fatal"}
    assert kind_of(outcome) in names
    assert (reason_of(outcome) is None) == isinstance(outcome, Accepted | Throttled)
    assert may_have_been_applied(outcome) == (
        isinstance(outcome, Unconfirmed)
        or (isinstance(outcome, Fatal | Throttled | TooLarge) and outcome.may_have_been_applied)
    )
