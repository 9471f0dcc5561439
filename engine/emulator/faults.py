"""Injected faults: by plan, otherwise at random from a seed.

Requests are numbered from 1 as they arrive. A fault applies only to a request that passes
authentication and the rate limit. The report counts each applied fault.
"""

import math
import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from engine.emulator.errors import EmulatorError

LARGEST_SIGMA = 3.0
"""The largest `latency_sigma`: at that, one answer in a thousand takes 10,000 times the median."""


class FaultKind(StrEnum):
    """The kinds of faults; the values are the words in plan files and reports."""

    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    GATEWAY_TIMEOUT = "504"
    RESET = "reset"
    """The connection is reset without an answer."""
    HANG = "hang"
    """No answer for `seconds`, then a reset."""
    TRUNCATED = "truncated"
    """The acceptance, cut off by the end of the connection."""
    PARTIAL = "partial"
    """A complete 200 with truncated JSON."""
    HTML = "html"
    """A 200 with a web page, as from a proxy."""
    LIE = "lie"
    """A 200 with `"status":"fail"`."""
    SLOW = "slow"
    """The correct answer after `seconds`."""
    THROTTLED = "429"
    """A 429 independent of the rate limit; Retry-After, if enabled, is `seconds`."""
    TOO_LARGE = "413"
    UNAUTHORIZED = "401"


_NEVER_APPLIED: Final = frozenset(
    {FaultKind.THROTTLED, FaultKind.TOO_LARGE, FaultKind.UNAUTHORIZED}
)
_SECONDS: Final = {FaultKind.HANG: 600.0, FaultKind.SLOW: 1.0, FaultKind.THROTTLED: 1.0}


class Fault(NamedTuple):
    """The fault of one request."""

    kind: FaultKind
    applied: bool
    """Whether the request is applied first."""
    seconds: float


@dataclass(frozen=True, slots=True)
class FaultShare:
    """A kind of fault for a share of all requests."""

    kind: FaultKind
    share: float
    """From 0 to 1."""
    applied_share: float = 0.0
    """The share of these requests that are applied first, from 0 to 1."""
    seconds: float | None = None

    def __post_init__(self) -> None:
        for share in (self.share, self.applied_share):
            if not 0 <= share <= 1:
                raise EmulatorError(f"a share of '{self.kind}' is {share}, not from 0 to 1")
        _check(self.kind, self.seconds, applied=self.applied_share > 0)


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault of certain requests; of two for one request, the first in the plan applies."""

    kind: FaultKind
    first: int
    last: int | None
    """The last request, inclusive; None for no end."""
    applied: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.first < 1 or (self.last is not None and self.last < self.first):
            raise EmulatorError(f"requests {self.first} to {self.last} are no range from 1 on")
        _check(self.kind, self.seconds, applied=self.applied)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSettings:
    """The faults to inject; none by default."""

    seed: int = 0
    jitter_ms: float = 0.0
    """Maximum delay of a request before it is counted and limited; uniform from 0."""
    latency_ms: float = 0.0
    """Delay of each answer after the work is done; the median if `latency_sigma` is above 0."""
    latency_sigma: float = 0.0
    """Standard deviation of the logarithm of that delay, which is lognormal; 0: all are alike."""
    shares: tuple[FaultShare, ...] = ()
    plan: tuple[PlannedFault, ...] = ()
    """Takes precedence over random faults."""
    poison_uids: frozenset[str] = field(default=frozenset(), repr=False)
    """Uids that make the API refuse the whole request."""
    name_poison: bool = True
    """Whether that refusal names the uid field."""

    def __post_init__(self) -> None:
        if not (0 <= self.jitter_ms < math.inf and 0 <= self.latency_ms < math.inf):
            raise EmulatorError("jitter and latency must be 0 milliseconds or more")
        if not 0 <= self.latency_sigma <= LARGEST_SIGMA:
            raise EmulatorError(f"the latency's sigma must be between 0 and {LARGEST_SIGMA:g}")
        total = sum(share.share for share in self.shares)
        if total > 1 + 1e-9:
            raise EmulatorError(f"the shares of all faults add up to {total:g}, more than 1")


class FaultTurn(NamedTuple):
    """The random draw for one request on arrival."""

    jitter: float
    """Seconds."""
    fault: Fault | None


class Faults:
    """Draws a fault for each request in turn; a seed gives the same draws at any timing."""

    def __init__(self, settings: FaultSettings) -> None:
        self._settings = settings
        self._random = random.Random(settings.seed)  # noqa: S311  a test double, not a secret
        self._latencies = random.Random(settings.seed)  # noqa: S311  the same
        self._arrived = 0

    def next(self) -> FaultTurn:
        """Draw for the next request; each request uses the same number of draws."""
        self._arrived += 1
        jitter, chance, applied = (self._random.random() for _ in range(3))
        fault = self._planned(self._arrived) or self._drawn(chance, applied)
        return FaultTurn(jitter * self._settings.jitter_ms / 1000, fault)

    def next_latency(self) -> float:
        """Draw how many seconds the next answer is delayed."""
        factor = self._latencies.lognormvariate(0.0, self._settings.latency_sigma)
        return self._settings.latency_ms / 1000 * factor

    def _planned(self, number: int) -> Fault | None:
        for planned in self._settings.plan:
            if planned.first <= number and (planned.last is None or number <= planned.last):
                return Fault(planned.kind, planned.applied, _seconds(planned))
        return None

    def _drawn(self, chance: float, applied: float) -> Fault | None:
        for share in self._settings.shares:
            if chance < share.share:
                return Fault(share.kind, applied < share.applied_share, _seconds(share))
            chance -= share.share
        return None


def _seconds(fault: FaultShare | PlannedFault) -> float:
    return _SECONDS.get(fault.kind, 0.0) if fault.seconds is None else fault.seconds


def _check(kind: FaultKind, seconds: float | None, *, applied: bool) -> None:
    if applied and kind in _NEVER_APPLIED:
        raise EmulatorError(f"a request that is answered '{kind}' is never applied")
    if seconds is None:
        return
    if kind not in _SECONDS:
        raise EmulatorError(f"a '{kind}' takes no seconds; {', '.join(_SECONDS)} do")
    if not 0 <= seconds < math.inf:
        raise EmulatorError(f"the seconds of a '{kind}' must be 0 or more")
