"""The waiting times of a mirror, and what it keeps."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """The waiting times of a mirror, and what it keeps."""

    settle_seconds: Annotated[float, Ge(0), Le(604_800)] = 900.0
    """How late the API may apply an accepted request: a change that reverses one of the same uid
    waits so long after that one's last attempt."""
    keep_generations: Annotated[int, Ge(1), Le(10_000)] = 14
    """Snapshots that are kept, including the current one."""
    retry_rejected_days: Annotated[float, Ge(0), Le(36_500)] = 7.0
    """How long after a rejection by the API a uid is not sent again."""
    resend_over_nights: Annotated[int, Ge(0), Le(10_000)] = 0
    """Number of daily runs over which all members are added once more, one slice a run, newest
    first. The API ignores uids that it does not know yet, and they may have signed up since. 0:
    never."""
    resend_requests: Annotated[int, Ge(1), Le(10_000_000)] = 3000
    """The most requests that a slice may take; if it needs more, the round takes more runs."""
