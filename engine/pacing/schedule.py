"""The window law over a log of send times; pure arithmetic, times are seconds of one clock."""

from collections import deque
from collections.abc import Iterable

from engine.pacing.settings import PacingSettings

LARGEST_MARGIN = 1 / 100
"""The most that round trips alone can widen the margin to, as a share of the window."""
SMALLEST_MARGIN = 1 / 1200
"""What the margin never falls below, as a share of the window: 50 ms of a minute."""
WIDEST_MARGIN = 2 / 100
"""The margin's bound after any number of 429s, as a share of the window."""
SPREAD_COVER = 1.5
"""The margin as a multiple of the spread seen: the widest pair of trips is yet to come."""
TRUSTED_ROUND_TRIPS = 20
"""Round trips to be seen before their spread is believed; until then the largest margin holds."""
STEP_DOWN = 0.9
"""What one 429 too many takes the pace down to, where the log can't tell what was let through."""
STEP_UP = 0.02
"""What a window without a 429 gives back, as a share of the ceiling that is configured."""
WIDENING = 1 / 200
"""What each 429 adds to the margin, as a share of the window."""
FORGIVING_WINDOWS = 10
"""Windows without a 429 after which the margin gives back what one of them added."""
QUIET_WINDOWS = 3
"""Windows without a 429 after which the next one counts as the first again."""


class Schedule:
    """When the next send may go, so that no window ever holds more than it may."""

    def __init__(self, settings: PacingSettings, log: Iterable[float] = ()) -> None:
        self._settings = settings
        self._window = settings.per_seconds
        self._log: deque[float] = deque(sorted(log), maxlen=settings.requests)
        self._accepted: deque[float] = deque(maxlen=settings.requests)
        self._round_trips: deque[float] = deque(maxlen=max(settings.requests, TRUSTED_ROUND_TRIPS))
        self._widened = 0.0
        self._forgive_at = float("inf")
        self._allowed = float(settings.requests)
        self._struck_at = float("-inf")
        self._flows = False
        self._raise_at = float("inf")
        self.found: int | None = None
        """The ceiling that 429s made the pace step down to last; None if they never did."""

    @property
    def margin(self) -> float:
        """Seconds by which the window is stretched at present."""
        largest = self._window * LARGEST_MARGIN
        if len(self._round_trips) < TRUSTED_ROUND_TRIPS:
            spread = largest
        else:
            spread = SPREAD_COVER * (max(self._round_trips) - min(self._round_trips))
        return min(max(spread, self._window * SMALLEST_MARGIN), largest) + self._widened

    @property
    def allowed(self) -> int:
        """How many requests a window may hold at present."""
        return max(1, int(self._allowed))

    def earliest(self) -> float:
        """Return the time from which the next send keeps the law; minus infinity if any does."""
        allowed = self.allowed
        if len(self._log) < allowed:
            law = float("-inf")
        else:
            law = self._log[-allowed] + self._window + self.margin
        if allowed == self._settings.requests or not self._log:
            return law
        # Below the configured pace the bucket is too fast: an even pace suits every kind of limit.
        return max(law, self._log[-1] + (self._window + self.margin) / allowed)

    def record_send(self, at: float) -> None:
        """Enter a send into the log."""
        self._log.append(at)

    def record_round_trip(self, seconds: float) -> None:
        """Learn from an answer how much the way there and back varies."""
        self._round_trips.append(seconds)

    def record_acceptance(self, sent_at: float, now: float) -> None:
        """Learn that the API let a request through; after a quiet window, try a little more."""
        self._accepted.append(sent_at)
        self._flows = True
        if now >= self._forgive_at:
            self._widened = max(0.0, self._widened - self._window * WIDENING)
            self._forgive_at = now + FORGIVING_WINDOWS * self._window
        if now >= self._raise_at:
            most = self._settings.requests
            self._allowed = min(most, self._allowed + max(1.0, most * STEP_UP))
            self._raise_at = now + self._window if self._allowed < most else float("inf")

    def strike(self, now: float) -> None:
        """Hear of a 429 although the law was kept: the API counts more, or allows less.

        The first one stretches the window. The next takes the pace down, if it comes soon and
        requests went through in between: a storm that refuses everything tells of no ceiling.
        """
        widest = self._window * (WIDEST_MARGIN - LARGEST_MARGIN)
        self._widened = min(self._widened + self._window * WIDENING, widest)
        self._forgive_at = now + FORGIVING_WINDOWS * self._window
        if self._flows and now - self._struck_at < QUIET_WINDOWS * self._window:
            let_through = sum(1 for sent_at in self._accepted if sent_at > now - self._window)
            # A window that was barely used says nothing about how much it may hold.
            tells = let_through >= self._allowed / 2
            down = min(let_through, self._allowed - 1) if tells else self._allowed * STEP_DOWN
            self._allowed = max(1.0, down)
            self.found = self.allowed
            self._raise_at = now + self._window
        self._struck_at = now
        self._flows = False
