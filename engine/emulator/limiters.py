"""Models of a rate limit without I/O; the caller passes the time in seconds, never decreasing.

The API documents "300 requests a minute" but not the kind of window, so this module has each common
kind. An admitted request counts against the limit; with `count_throttled`, a refused one does too.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from engine.emulator.errors import EmulatorError


class LimiterModel(StrEnum):
    """The kinds of rate limit that "requests per window" can mean."""

    NONE = "none"
    """No limit."""
    FIXED = "fixed"
    """A counter that is reset at the start of each window."""
    SLIDING = "sliding"
    """A maximum of requests in any interval of a window's length."""
    BUCKET = "bucket"
    """A token bucket, initially full, refilled evenly; its size is `burst` or `requests`."""
    GCRA = "gcra"
    """Evenly spaced arrivals; `burst` requests may come at once, by default 1."""


class RetryAfter(StrEnum):
    """The form of the Retry-After header of a 429."""

    SECONDS = "seconds"
    DATE = "date"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """The rate limit of each workspace; the defaults are the API's own figures."""

    model: LimiterModel = LimiterModel.SLIDING
    requests: int = 300
    per_seconds: float = 60.0
    burst: int | None = None
    """Requests that may come at once; for `bucket` and `gcra` only."""
    phase_seconds: float = 0.0
    """The offset of the windows from the emulator's start; for `fixed` only."""
    count_throttled: bool = True
    """Whether a request answered by 429 counts against the limit too."""
    retry_after: RetryAfter = RetryAfter.NONE
    """The Retry-After header of a 429: the API documents none."""
    rate_headers: bool = False
    """Whether answers carry X-RateLimit-Limit, -Remaining and -Reset (seconds from now)."""

    def __post_init__(self) -> None:
        if self.requests < 1:
            raise EmulatorError("the limit needs at least 1 request in a window")
        if not 0 < self.per_seconds < math.inf:
            raise EmulatorError("the limit's window must be longer than 0 seconds")
        if not 0 <= self.phase_seconds < math.inf:
            raise EmulatorError("the phase must be 0 seconds or more")
        if self.burst is not None and self.model not in {LimiterModel.BUCKET, LimiterModel.GCRA}:
            raise EmulatorError(f"the limiter '{self.model}' has no burst; bucket and gcra have")
        if self.burst is not None and self.burst < 1:
            raise EmulatorError("the burst must be at least 1 request")


class LimiterDecision(NamedTuple):
    """A limiter's decision on one request."""

    admitted: bool
    remaining: int
    """Number of further requests that would be admitted now."""
    wait: float
    """Seconds until a request can be admitted, if none comes before; 0 if one can be now."""


class Limiter(Protocol):
    """A rate limit of one workspace."""

    def arrive(self, now: float) -> LimiterDecision:
        """Decide on the request that arrives at `now`, and record it."""


class Unlimited:
    """Admits everything."""

    def __init__(self, settings: LimitSettings) -> None:
        self._requests = settings.requests

    def arrive(self, now: float) -> LimiterDecision:
        """Admit; `remaining` is a whole window's requests."""
        del now
        return LimiterDecision(admitted=True, remaining=self._requests, wait=0.0)


class FixedWindow:
    """Counts from the start of each window, independently of the window before."""

    def __init__(self, settings: LimitSettings) -> None:
        self._requests = settings.requests
        self._window = settings.per_seconds
        self._phase = settings.phase_seconds
        self._current = -math.inf
        self._used = 0

    def arrive(self, now: float) -> LimiterDecision:
        """Admit while this window is not full; refused requests change nothing, counted or not."""
        index = math.floor((now - self._phase) / self._window)
        if index != self._current:
            self._current, self._used = index, 0
        admitted = self._used < self._requests
        self._used += admitted
        remaining = self._requests - self._used
        end = self._phase + (index + 1) * self._window
        return LimiterDecision(admitted, remaining, 0.0 if remaining else end - now)


class SlidingWindow:
    """Counts back one window from each request; a request exactly a window old is outside."""

    def __init__(self, settings: LimitSettings) -> None:
        self._window = settings.per_seconds
        self._count_throttled = settings.count_throttled
        self._requests = settings.requests
        self._times: deque[float] = deque(maxlen=settings.requests)

    def arrive(self, now: float) -> LimiterDecision:
        """Admit if the `requests`-th last counted request is at least one window old."""
        times = self._times
        while times and now - times[0] >= self._window:
            times.popleft()
        admitted = len(times) < self._requests
        if admitted or self._count_throttled:
            times.append(now)  # a full deque drops its oldest: only the last `requests` matter
        remaining = self._requests - len(times)
        wait = 0.0 if remaining else times[0] + self._window - now
        return LimiterDecision(admitted, remaining, wait)


class TokenBucket:
    """Holds at most `burst` tokens and gains `requests` tokens evenly over each window."""

    def __init__(self, settings: LimitSettings) -> None:
        self._rate = settings.requests / settings.per_seconds
        self._burst = float(settings.burst or settings.requests)
        self._count_throttled = settings.count_throttled
        self._tokens = self._burst
        self._seen = -math.inf

    def arrive(self, now: float) -> LimiterDecision:
        """Admit for one token; a refused request that counts takes the remaining fraction."""
        gained = (now - self._seen) * self._rate
        self._tokens = min(self._burst, self._tokens + gained)
        self._seen = now
        admitted = self._tokens >= 1
        if admitted:
            self._tokens -= 1
        elif self._count_throttled:
            self._tokens = 0.0
        wait = max(0.0, (1 - self._tokens) / self._rate)
        return LimiterDecision(admitted, int(self._tokens), wait)


class GenericCellRate:
    """Keeps the time at which the next of evenly spaced requests would be due."""

    def __init__(self, settings: LimitSettings) -> None:
        self._spacing = settings.per_seconds / settings.requests
        self._tolerance = ((settings.burst or 1) - 1) * self._spacing
        self._count_throttled = settings.count_throttled
        self._due = -math.inf

    def arrive(self, now: float) -> LimiterDecision:
        """Admit a request early by at most the burst; a counted refusal uses the burst up."""
        due = max(self._due, now)
        admitted = due - now <= self._tolerance
        if admitted:
            due += self._spacing
        elif self._count_throttled:
            due = now + self._tolerance + self._spacing
        self._due = due
        early = due - now - self._tolerance
        remaining = 0 if early > 0 else int(-early / self._spacing) + 1
        return LimiterDecision(admitted, remaining, max(0.0, early))


_MODELS: dict[LimiterModel, Callable[[LimitSettings], Limiter]] = {
    LimiterModel.NONE: Unlimited,
    LimiterModel.FIXED: FixedWindow,
    LimiterModel.SLIDING: SlidingWindow,
    LimiterModel.BUCKET: TokenBucket,
    LimiterModel.GCRA: GenericCellRate,
}


def limiter(settings: LimitSettings) -> Limiter:
    """Return a new limiter of the configured model, with its full capacity."""
    return _MODELS[settings.model](settings)
