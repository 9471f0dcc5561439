"""From an outcome to a decision: the one place that says what is tried again, and when."""

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
    """How often, how fast and how long failed requests are tried again."""

    max_attempts: Annotated[int, Ge(1), Le(1_000_000)] = 10
    """Failed attempts of one batch in one execution; after that it is left unconfirmed."""
    backoff_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 1.0
    """The longest wait before the second attempt; it doubles with each further one."""
    backoff_cap_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """What a wait never exceeds."""
    give_up_after_seconds: Annotated[float, Ge(0.001), Le(31_536_000)] = 900.0
    """An API that answers nothing useful for this long is down: the run stops, to go on later."""
    give_up_throttled_after_seconds: Annotated[float, Ge(0.001), Le(31_536_000)] = 7200.0
    """An API that answers nothing but 429s for this long is given up too."""
    max_isolation_requests: Annotated[int, Ge(1), Le(10_000_000)] = 1000
    """Requests a run may spend on finding the uids that the API rejects."""


def backoff(failures: int, jitter: float, settings: RetrySettings) -> float:
    """Return the seconds to wait after the `failures`-th failure in a row (from 1).

    Capped exponential with full jitter: `jitter`, in [0, 1), picks a point between none of it and
    all of it, so that batches that failed together do not come back together.
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
    """Say what becomes of a batch of `uid_count` uids after `failures` failures in this execution.

    `failures` counts this outcome too, if it is one. Throttled attempts are never failures: the
    gate, not the batch, waits them out. `is_size_independent` says that a 413
    can't be about the size, so that no uid is rejected for a single one.
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
