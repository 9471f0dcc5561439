"""Decides, for each outcome, whether and when a batch is sent again."""

from dataclasses import dataclass
from typing import Annotated, assert_never

from annotated_types import Ge, Le

from engine.delivery.outcome import (
    Abort,
    Accepted,
    Decision,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    RetryAfter,
    Settle,
    Split,
    Throttled,
    TooLarge,
    Unconfirmed,
)
from engine.model.status import BatchState


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """How often, how fast and how long failed requests are retried."""

    max_attempts: Annotated[int, Ge(1), Le(1_000_000)] = 10
    """Most failed attempts of a batch in one execution; then the batch is unconfirmed."""
    backoff_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 1.0
    """The longest wait before the second attempt; it doubles with each further attempt."""
    backoff_cap_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """The upper bound of a wait."""
    give_up_after_seconds: Annotated[float, Ge(0.001), Le(31_536_000)] = 900.0
    """Time without a useful answer after which the run stops; it can be resumed."""
    give_up_throttled_after_seconds: Annotated[float, Ge(0.001), Le(31_536_000)] = 7200.0
    """Time with only 429s after which the run stops; it can be resumed."""
    max_isolation_requests: Annotated[int, Ge(1), Le(10_000_000)] = 1000
    """Most requests of a run to find the uids that the API rejects."""


def backoff(failures: int, jitter: float, settings: RetrySettings) -> float:
    """Return the seconds to wait after the `failures`-th failure in a row (from 1).

    Capped exponential backoff with full jitter: the wait is multiplied by `jitter`, in [0, 1), so
    that batches that failed together are not retried together.
    """
    doubled: float = settings.backoff_seconds * 2.0 ** min(failures - 1, 60)
    return jitter * min(doubled, settings.backoff_cap_seconds)


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
