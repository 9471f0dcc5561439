"""How often and how fast failed requests are sent again."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


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
