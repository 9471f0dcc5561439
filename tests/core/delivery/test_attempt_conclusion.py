"""What each attempt leads to, as a table: what is written, and what happens next."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import Stamp
from engine.delivery.attempt_conclusion import (
    AwaitAcceptance,
    Circumstances,
    Conclusion,
    EndedAttempt,
    Replace,
    conclude,
)
from engine.delivery.decision import Abort, RetryAfter, Settle
from engine.delivery.isolation import ALIKE_REFUSALS, AmbiguousRefusal, Isolation, request_is_wrong
from engine.delivery.outcome import (
    Accepted,
    Exchange,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
    kind_of,
)
from engine.delivery.retry import RetrySettings
from engine.delivery.work import Work
from engine.ledger.records import AttemptResult, Division, RejectedUid, Settlement
from engine.model.cohort import Action, Cohort
from engine.model.status import BatchState
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from exports import Export, Row

ENVELOPE = Envelope("partner", Cohort("id", "name"), Action.ADD)
SENT = Stamp("boot", 1, 2)
NAMED = Rejected("400: uid", names_members=True, detail="400: uid 'u0'")
UNNAMED = Rejected("400", names_members=False)
PROVEN = Isolation(100, proven=True)
NUMBER, NEXT_NUMBER = 7, 20
REJECTED = Settlement(
    BatchState.REJECTED, "400: uid", RejectedUid("file-0", 1, "u0", "400: uid 'u0'", "req-1")
)


def work_of(uids: int, *, failures: int = 0, were_rejected: bool = False) -> Work:
    export = Export([[Row(f"u{number}") for number in range(uids)]])
    [batch] = Cutter(ENVELOPE, Limit.of(128_000)).batches(export.blocks(3))
    batch = replace(batch, were_rejected=were_rejected)
    return Work(NUMBER, batch, 0, uids, batch.payload, attempts=1, failures=failures)


def concluded(
    outcome: Outcome,
    work: Work,
    isolation: Isolation = PROVEN,
    *,
    largest_accepted: int = 0,
    is_recorded: bool = True,
) -> Conclusion:
    settings = RetrySettings(max_attempts=3, backoff_seconds=2)
    place = work.place if work.uid_count == 1 else None
    attempt = EndedAttempt(Exchange(outcome, 200, "req-1"), 9, SENT, place, is_recorded)
    return conclude(
        work, attempt, Circumstances(settings, isolation, largest_accepted, NEXT_NUMBER, 0.5)
    )


@pytest.mark.parametrize(
    ("outcome", "uids", "failures", "change", "step", "failures_after"),
    [
        (Accepted(), 4, 2, Settlement(BatchState.ACCEPTED), Settle(BatchState.ACCEPTED), 2),
        (Throttled(9.0), 4, 2, None, RetryAfter(0), 2),
        (NotSent("x"), 4, 0, None, RetryAfter(1), 1),
        (Unconfirmed("x"), 4, 0, None, RetryAfter(1), 1),
        (
            *(Unconfirmed("x"), 4, 2, Settlement(BatchState.UNCONFIRMED, "x")),
            *(Settle(BatchState.UNCONFIRMED, "x"), 3),
        ),
        (NAMED, 1, 0, REJECTED, Settle(BatchState.REJECTED, "400: uid"), 0),
        (Fatal("401", "check"), 4, 0, None, Abort("401", "check"), 0),
    ],
    ids=lambda value: kind_of(value) if isinstance(value, Outcome) else "",
)
def test_what_an_attempt_leads_to(  # noqa: PLR0913, PLR0917 - one column of the table each
    outcome, uids, failures, change, step, failures_after
) -> None:
    found = concluded(outcome, work_of(uids, failures=failures))
    assert (found.change, found.next_step, found.failures) == (change, step, failures_after)
    assert found.isolation == PROVEN


@pytest.mark.parametrize(("outcome", "isolated"), [(NAMED, True), (TooLarge("413"), False)])
def test_a_refused_batch_is_replaced_by_its_halves(outcome, isolated) -> None:
    found = concluded(outcome, work_of(5))
    assert isinstance(found.next_step, Replace)
    assert isinstance(found.change, Division)
    assert found.change.isolated == isolated
    assert found.change.reason == outcome.reason
    halves = found.next_step.halves
    assert [half.number for half in halves] == [NEXT_NUMBER, NEXT_NUMBER + 1]
    assert [part.number for part in found.change.parts] == [NEXT_NUMBER, NEXT_NUMBER + 1]
    assert [half.uids.to_pylist() for half in halves] == [["u0", "u1"], ["u2", "u3", "u4"]]


@pytest.mark.parametrize("outcome", [UNNAMED, TooLarge("413")])
def test_a_single_refusal_before_any_acceptance_is_ambiguous(outcome) -> None:
    found = concluded(outcome, work_of(1), Isolation(100))
    assert (found.change, found.next_step) == (None, AwaitAcceptance(None))
    rejected = RejectedUid("file-0", 1, "u0", outcome.reason, "req-1")
    settlement = Settlement(BatchState.REJECTED, outcome.reason, rejected)
    assert found.isolation.ambiguous == (AmbiguousRefusal(NUMBER, settlement, outcome),)


def test_too_many_ambiguous_refusals_stop_the_run() -> None:
    isolation = Isolation(100)
    for _ in range(ALIKE_REFUSALS - 1):
        isolation = concluded(TooLarge("413"), work_of(1), isolation).isolation
    found = concluded(TooLarge("413"), work_of(1), isolation)
    assert found.next_step == AwaitAcceptance(request_is_wrong(TooLarge("413")))


def test_a_uid_that_was_rejected_before_is_refused_unambiguously() -> None:
    found = concluded(UNNAMED, work_of(1, were_rejected=True), Isolation(100))
    assert isinstance(found.change, Settlement)
    assert found.next_step == Settle(BatchState.REJECTED, "400")
    assert found.isolation == Isolation(100)


def test_the_search_ends_the_run_at_its_bound() -> None:
    found = concluded(NAMED, work_of(4), Isolation(3, requests=3, proven=True))
    assert found.change is None
    assert isinstance(found.next_step, Abort)


def test_a_413_for_a_size_that_was_accepted_before_is_tried_again() -> None:
    work = work_of(1)
    again = concluded(TooLarge("413"), work, largest_accepted=len(work.payload))
    assert (again.change, again.next_step, again.failures) == (None, RetryAfter(1), 1)
    late = replace(work, failures=2)
    found = concluded(TooLarge("413"), late, largest_accepted=len(work.payload))
    assert found.next_step == Settle(BatchState.REJECTED, "413")
    smaller = concluded(TooLarge("413"), work, largest_accepted=len(work.payload) - 1)
    assert smaller.next_step == Settle(BatchState.REJECTED, "413")


OUTCOMES = [Accepted(), Throttled(3.0), NotSent("x"), Unconfirmed("x"), NAMED, TooLarge("413")]


@given(st.sampled_from([*OUTCOMES, Fatal("401", "check")]), st.integers(1, 3), st.booleans())
def test_what_is_recorded_of_an_attempt(outcome, uids, is_recorded) -> None:
    work = work_of(uids)
    before = (work.failures, work.attempts, work.payload)
    found = concluded(outcome, work, is_recorded=is_recorded)
    assert (work.failures, work.attempts, work.payload) == before
    if not is_recorded:
        assert found.result is None
        return
    assert found.result == AttemptResult(
        outcome=kind_of(outcome),
        may_have_been_applied=isinstance(outcome, Unconfirmed),
        sent=None if isinstance(outcome, NotSent) else SENT,
        ended_utc_ns=9,
        http_status=200,
        request_id="req-1",
        reason=getattr(outcome, "reason", None),
        retry_after=3.0 if isinstance(outcome, Throttled) else None,
    )
