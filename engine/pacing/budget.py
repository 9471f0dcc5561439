"""The use of the ceiling: requests sent, and requests lost by each cause."""

from dataclasses import dataclass, field
from enum import StrEnum

from engine.pacing.settings import PacingSettings


class Cause(StrEnum):
    """Why a request that the ceiling allowed was not sent."""

    HELD = "held"
    """A 429 had closed the gate."""
    INPUT = "input"
    """The export was slower than the ceiling."""
    IN_FLIGHT = "in_flight"
    """All batches in flight waited for slow answers or for their backoff."""
    MARGIN = "margin"
    """The window was widened to cover arrival jitter."""
    LATE = "late"
    """Other causes: late wake-ups, connecting, and a pace below the ceiling."""


@dataclass(frozen=True, slots=True)
class Spending:
    """Requests from the first to the last: `allowed` is `used` plus the sum of `lost`."""

    allowed: float
    used: int
    lost: dict[Cause, float]

    def __add__(self, other: "Spending") -> "Spending":
        """Return the sum of both."""
        lost = {cause: self.lost[cause] + other.lost[cause] for cause in Cause}
        return Spending(self.allowed + other.allowed, self.used + other.used, lost)

    def __sub__(self, earlier: "Spending") -> "Spending":
        """Return the difference from an earlier state of the same budget."""
        lost = {cause: self.lost[cause] - earlier.lost[cause] for cause in Cause}
        return Spending(self.allowed - earlier.allowed, self.used - earlier.used, lost)


@dataclass(slots=True)
class Budget:
    """Sums up sends and the waits between them; pure, times are seconds of one clock."""

    settings: PacingSettings
    _used: int = 0
    _last: float = 0.0
    _lost: dict[Cause, float] = field(default_factory=lambda: dict.fromkeys(Cause, 0.0))
    _waited: dict[Cause, float] = field(default_factory=lambda: dict.fromkeys(Cause, 0.0))

    def wait(self, cause: Cause, seconds: float) -> None:
        """Record a wait of the next request; it counts only if a slot was lost."""
        self._waited[cause] += seconds

    def send(self, at: float, margin_seconds: float) -> None:
        """Record a send; `margin_seconds` is 0 unless it waited for the window limit."""
        per_second = self.settings.requests / self.settings.per_seconds
        if self._used:
            missed = (at - self._last) * per_second - 1
            for cause in (Cause.HELD, Cause.INPUT, Cause.IN_FLIGHT):
                cost = max(0.0, min(missed, self._waited[cause] * per_second))
                self._lost[cause] += cost
                missed -= cost
            # The margin of a window is lost once; its cost is divided among the requests in it.
            cost = margin_seconds / self.settings.per_seconds
            self._lost[Cause.MARGIN] += cost
            # The rest may be negative: a request that catches up regains lost slots.
            self._lost[Cause.LATE] += missed - cost
        self._used += 1
        self._last = at
        self._waited = dict.fromkeys(Cause, 0.0)

    @property
    def spending(self) -> Spending:
        """The use of the ceiling so far."""
        return Spending(self._used + sum(self._lost.values()), self._used, dict(self._lost))
