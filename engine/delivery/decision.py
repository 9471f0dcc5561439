"""Decides, for each outcome, whether and when a batch is sent again."""

from dataclasses import dataclass
from typing import assert_never

from engine.delivery.outcome import (
    Accepted,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
)
from engine.delivery.retry import RetrySettings, backoff
from engine.errors import ExitStatus
from engine.model.status import BatchState


@dataclass(frozen=True, slots=True)
class Settle:
    """Settle the batch for this run."""

    state: BatchState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send the same payload again after at least `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Split:
    """Replace the batch with its halves."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the run."""

    reason: str
    hint: str
    exit_status: ExitStatus = ExitStatus.REFUSED


Decision = Settle | RetryAfter | Split | Abort


def decide(  # noqa: PLR0913 - what a decision depends on
    outcome: Outcome,
    *,
    uid_count: int,
    failures: int,
    jitter: float,
    settings: RetrySettings,
    is_size_independent: bool = False,
) -> Decision:
    """Return the decision for a batch of `uid_count` uids after `failures` failures.

    `failures` counts failures in this execution, including this outcome. Throttled attempts are not
    failures, because the gate handles their wait. `is_size_independent` means that the size can't
    be the cause of a 413, so that one 413 rejects no uid.
    """
    match outcome:
        case Accepted():
            return Settle(BatchState.ACCEPTED)
        case Throttled():
            return RetryAfter(0.0)
        case NotSent():
            return RetryAfter(backoff(failures, jitter, settings))
        case Unconfirmed(reason):
            if failures >= settings.max_attempts:
                return Settle(BatchState.UNCONFIRMED, reason)
            return RetryAfter(backoff(failures, jitter, settings))
        case TooLarge() if is_size_independent and failures < settings.max_attempts:
            return RetryAfter(backoff(failures, jitter, settings))
        case Rejected(reason) | TooLarge(reason):
            return Settle(BatchState.REJECTED, reason) if uid_count == 1 else Split()
        case Fatal(reason, hint, exit_status=exit_status):
            return Abort(reason, hint, exit_status)
        case _:
            assert_never(outcome)
