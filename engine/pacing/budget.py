"""The use of the ceiling by a run: requests sent, and requests not sent, by their cause."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """Why a run did not send a request that the ceiling allowed."""

    OTHER_RUNS = "other_runs"
    """Another run, which shared the ceiling, sent it."""
    OTHER_PROCESSES = "other_processes"
    """A process of another host or state folder, which shares the ceiling, sent it."""
    HELD = "held"
    """A 429 had closed the gate."""
    INPUT = "input"
    """The export was slower than the ceiling."""
    IN_FLIGHT = "in_flight"
    """All batches in flight waited for slow answers or for their backoff."""
    MARGIN = "margin"
    """A window began later, because the API may have counted a request until its answer."""
    LATE = "late"
    """Other causes: late wake-ups, connecting, and a pace below the ceiling."""


@dataclass(frozen=True, slots=True)
class Spending:
    """From a run's first request to its last: `allowed` is `used` plus the sum of `lost`."""

    allowed: float
    used: int
    lost: dict[Cause, float]

    def __add__(self, other: "Spending") -> "Spending":
        """Return the sum of both."""
        lost = {cause: self.lost[cause] + other.lost[cause] for cause in Cause}
        return Spending(self.allowed + other.allowed, self.used + other.used, lost)


@dataclass(slots=True)
class SharedUse:
    """The use of the ceiling by all runs that share a pacer, as totals that only grow."""

    requests: int = 0
    elsewhere: int = 0
    """Requests of other processes that share the ceiling through a server."""
    margin: float = 0.0
    """Requests lost because windows began later."""
    held_seconds: float = 0.0
    """How long requests have waited because of a 429."""
    paused_seconds: float = 0.0
    """How long requests have waited because the hour allows none."""

    def send(self, margin: float) -> None:
        """Record a send that has lost `margin` requests to the margin."""
        self.requests += 1
        self.margin += margin


@dataclass(slots=True)
class Budget:
    """Sums up one run's sends and the waits between them; times are seconds of one clock.

    A request that no run sent counts as lost in each of the runs that were being delivered.
    """

    allowed_between: Callable[[float, float], float]
    """Returns how many requests the ceiling allows between two times."""
    shared: SharedUse
    _used: int = 0
    _first: float = float("inf")
    _last: float = 0.0
    _before: SharedUse = field(default_factory=SharedUse)
    """The shared use at the last send, without pauses."""
    _lost: dict[Cause, float] = field(default_factory=lambda: dict.fromkeys(Cause, 0.0))
    _waited: defaultdict[Cause, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def began(self) -> float:
        """The time of the first send; infinity before it."""
        return self._first

    def wait(self, cause: Cause, seconds: float) -> None:
        """Record a wait of the run's next request; it counts only if requests were lost."""
        self._waited[cause] += seconds

    def send(self, at: float) -> None:
        """Record a send, after it was recorded in the shared use."""
        shared, before = self.shared, self._before
        if self._used:
            allowed, seconds = self.allowed_between(self._last, at), at - self._last
            per_second = allowed / seconds if seconds else 0.0
            others = shared.requests - before.requests - 1
            elsewhere = shared.elsewhere - before.elsewhere
            margin = shared.margin - before.margin
            self._lost[Cause.OTHER_RUNS] += others
            self._lost[Cause.OTHER_PROCESSES] += elsewhere
            self._lost[Cause.MARGIN] += margin
            missed = allowed - 1 - others - elsewhere - margin
            self._waited[Cause.HELD] = shared.held_seconds - before.held_seconds
            for cause in (Cause.HELD, Cause.INPUT, Cause.IN_FLIGHT):
                cost = max(0.0, min(missed, self._waited[cause] * per_second))
                self._lost[cause] += cost
                missed -= cost
            # The rest may be negative: a request that catches up regains lost slots.
            self._lost[Cause.LATE] += missed
        else:
            self._first = at
        self._used += 1
        self._last = at
        self._before = SharedUse(
            shared.requests, shared.elsewhere, shared.margin, shared.held_seconds
        )
        self._waited.clear()

    @property
    def spending(self) -> Spending:
        """The use of the ceiling so far."""
        return Spending(self._used + sum(self._lost.values()), self._used, dict(self._lost))
