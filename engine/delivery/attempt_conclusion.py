"""Decides what the ledger records of an attempt, and the next step for its batch.

One pure function decides both, so that they are consistent.
"""

from dataclasses import dataclass

from engine.clock import Stamp
from engine.delivery.decision import Abort, RetryAfter, Settle, Split, decide
from engine.delivery.isolation import AmbiguousRefusal, Isolation
from engine.delivery.outcome import (
    Exchange,
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
from engine.delivery.retry import RetrySettings
from engine.delivery.work import Work, divide
from engine.ledger.records import AttemptResult, Division, Settlement
from engine.model.status import BatchState


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt to send a batch, with a known outcome."""

    exchange: Exchange
    ended_utc_ns: int
    sent: Stamp | None = None
    """When the head was sent; None if it was not sent."""
    place: tuple[str, int] | None = None
    """Export file and record of the uid, for a refused batch of one uid."""
    is_recorded: bool = True
    """Whether the ledger holds the intent to send it, so that the outcome must be recorded."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The other inputs of a conclusion."""

    settings: RetrySettings
    isolation: Isolation
    largest_accepted: int
    """Bytes of the largest payload that the API has accepted; 0 if none."""
    next_number: int
    """The number of the first half, if the batch is split."""
    jitter: float
    """In [0, 1)."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Deliver the halves in place of the batch."""

    halves: tuple[Work, Work]


@dataclass(frozen=True, slots=True)
class AwaitAcceptance:
    """Leave the batch open until an acceptance shows that its uid is wrong, not the request.

    If `abort` is set, there are too many such uids, and the run stops.
    """

    abort: Abort | None


NextStep = Settle | RetryAfter | Replace | AwaitAcceptance | Abort


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the ledger records, and the next step."""

    result: AttemptResult | None
    """None if the ledger does not hold the attempt; nothing is recorded then."""
    change: Settlement | Division | None
    """The change of the batch; None if it stays open."""
    next_step: NextStep
    failures: int
    """Failures of the batch in this execution, including this attempt."""
    isolation: Isolation


def conclude(work: Work, attempt: EndedAttempt, circumstances: Circumstances) -> Conclusion:
    """Return the conclusion of an attempt to send `work`; changes nothing."""
    outcome, isolation = attempt.exchange.outcome, circumstances.isolation
    # A single uid can't be too large if the API has accepted a payload of this size before.
    is_size_independent = (
        isinstance(outcome, TooLarge)
        and work.uid_count == 1
        and len(work.payload) <= circumstances.largest_accepted
    )
    failures = work.failures + (is_size_independent or isinstance(outcome, NotSent | Unconfirmed))
    decision = decide(
        outcome,
        uid_count=work.uid_count,
        failures=max(failures, 1),
        jitter=circumstances.jitter,
        settings=circumstances.settings,
        is_size_independent=is_size_independent,
    )
    if isinstance(outcome, Rejected):
        isolation, decision = isolation.after_refusal(
            outcome, decision, were_rejected=work.root.were_rejected
        )
    change: Settlement | Division | None = None
    next_step: NextStep
    match decision:
        case Split():
            isolated, reason = isinstance(outcome, Rejected), reason_of(outcome) or ""
            halves, change = divide(
                work, circumstances.next_number, isolated=isolated, reason=reason
            )
            next_step = Replace(halves)
        case Settle():
            settlement = _settlement(work, attempt, decision)
            ambiguous = _ambiguous(work, settlement, outcome, isolation)
            if ambiguous is None:
                change, next_step = settlement, decision
            else:
                isolation, abort = isolation.after_ambiguous(ambiguous)
                next_step = AwaitAcceptance(abort)
        case RetryAfter() | Abort():
            next_step = decision
    result = _result(attempt) if attempt.is_recorded else None
    return Conclusion(result, change, next_step, failures, isolation)


def _settlement(work: Work, attempt: EndedAttempt, decision: Settle) -> Settlement:
    if decision.state is not BatchState.REJECTED or attempt.place is None:
        return Settlement(decision.state, decision.reason)
    exchange = attempt.exchange
    detail = exchange.outcome.detail if isinstance(exchange.outcome, Rejected) else None
    reason = detail or decision.reason or ""
    rejected = work.rejection(attempt.place, reason, exchange.request_id)
    return Settlement(BatchState.REJECTED, decision.reason, rejected)


def _ambiguous(
    work: Work, settlement: Settlement, outcome: Outcome, isolation: Isolation
) -> AmbiguousRefusal | None:
    """Return a refusal that the request itself may have caused; None for other outcomes."""
    if not isinstance(outcome, Rejected | TooLarge) or work.root.were_rejected:
        return None
    if not isolation.is_ambiguous(outcome):
        return None
    return AmbiguousRefusal(work.number, settlement, outcome)


def _result(attempt: EndedAttempt) -> AttemptResult:
    exchange = attempt.exchange
    outcome = exchange.outcome
    return AttemptResult(
        outcome=kind_of(outcome),
        may_have_been_applied=may_have_been_applied(outcome),
        sent=None if isinstance(outcome, NotSent) else attempt.sent,
        ended_utc_ns=attempt.ended_utc_ns,
        http_status=exchange.http_status,
        request_id=exchange.request_id,
        reason=reason_of(outcome),
        retry_after=outcome.retry_after if isinstance(outcome, Throttled) else None,
    )
