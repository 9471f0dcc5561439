"""The window limit over a log of send times; pure, times are seconds of one clock."""

from collections import deque
from collections.abc import Iterable

from engine.pacing.settings import PacingSettings

LARGEST_MARGIN = 1 / 100
"""The largest margin that round trips alone can cause, as a share of the window."""
SMALLEST_MARGIN = 1 / 1200
"""The smallest margin, as a share of the window: 50 ms of a minute."""
WIDEST_MARGIN = 2 / 100
"""The largest margin after any number of 429s, as a share of the window."""
SPREAD_COVER = 1.5
"""The margin as a multiple of the spread so far, because later trips may differ more."""
TRUSTED_ROUND_TRIPS = 20
"""Round trips before their spread is used; until then the margin is the largest."""
STEP_DOWN = 0.9
"""The factor of a step down if too few acceptances show the API's ceiling."""
STEP_UP = 0.02
"""The step up after a window without a 429, as a share of the configured ceiling."""
WIDENING = 1 / 200
"""The increase of the margin per 429, as a share of the window."""
FORGIVING_WINDOWS = 10
"""Windows without a 429 after which the margin shrinks by the increase of one 429."""
QUIET_WINDOWS = 3
"""Windows without a 429 after which the next 429 counts as the first again."""


class Schedule:
    """Computes the time of the next send, so that no window exceeds the ceiling."""

    def __init__(self, settings: PacingSettings, log: Iterable[float] = ()) -> None:
        self._most = settings.most
        self._window = settings.per_seconds
        self.ceiling = settings.requests
        """The ceiling in force, which may vary by the hour: requests in a window."""
        self.replace_log(log)
        self._accepted: deque[float] = deque(maxlen=self._most)
        self._round_trips: deque[float] = deque(maxlen=max(self._most, TRUSTED_ROUND_TRIPS))
        self._widened = 0.0
        self._forgive_at = float("inf")
        self._allowed = float(self._most)
        """What the API accepts by its answers, at most the largest ceiling of any hour."""
        self._struck_at = float("-inf")
        self._flows = False
        self._raise_at = float("inf")
        self._restored_at = float("-inf")
        self.found: int | None = None
        """The ceiling after the last step down due to 429s; None if there was none."""

    @property
    def margin(self) -> float:
        """Seconds that are currently added to the window."""
        largest = self._window * LARGEST_MARGIN
        if len(self._round_trips) < TRUSTED_ROUND_TRIPS:
            spread = largest
        else:
            spread = SPREAD_COVER * (max(self._round_trips) - min(self._round_trips))
        return min(max(spread, self._window * SMALLEST_MARGIN), largest) + self._widened

    @property
    def allowed(self) -> int:
        """The number of requests currently allowed in a window."""
        return min(max(1, int(self._allowed)), self.ceiling)

    def found_since(self, at: float) -> int | None:
        """Return `found` if a ceiling below the configured one was in force at `at` or later."""
        is_lowered = self._allowed < self._most
        return self.found if is_lowered or self._restored_at >= at else None

    def earliest(self) -> float:
        """Return the earliest time of the next send; minus infinity if there is no limit.

        It is infinity while the ceiling in force allows no requests.
        """
        allowed = self.allowed
        if not allowed:
            return float("inf")
        if len(self._log) < allowed:
            limit = float("-inf")
        else:
            limit = self._log[-allowed] + self._window + self.margin
        if allowed == self.ceiling or not self._log:
            return limit
        # Below the configured pace, the bucket is too fast. Even spacing suits any kind of limit.
        return max(limit, self._log[-1] + (self._window + self.margin) / allowed)

    @property
    def last_send(self) -> float:
        """The time of the latest send in the log; minus infinity if there is none."""
        return self._log[-1] if self._log else float("-inf")

    def replace_log(self, log: Iterable[float]) -> None:
        """Take the send times in `log` in place of those so far; what was learnt remains."""
        self._log = deque(sorted(log), maxlen=self._most)

    def record_send(self, at: float) -> None:
        """Add a send to the log."""
        self._log.append(at)

    def record_round_trip(self, seconds: float) -> None:
        """Record a round trip, whose spread sets the margin."""
        self._round_trips.append(seconds)

    def record_acceptance(self, sent_at: float, now: float) -> None:
        """Record an acceptance; after a window without a 429, raise the allowed number."""
        self._accepted.append(sent_at)
        self._flows = True
        if now >= self._forgive_at:
            self._widened = max(0.0, self._widened - self._window * WIDENING)
            self._forgive_at = now + FORGIVING_WINDOWS * self._window
        # An hour of a lower ceiling does not show whether the API accepts more.
        if now >= self._raise_at and self._allowed <= self.ceiling:
            most = self._most
            self._allowed = min(most, self._allowed + max(1.0, most * STEP_UP))
            if self._allowed < most:
                self._raise_at = now + self._window
            else:
                self._raise_at, self._restored_at = float("inf"), now

    def strike(self, now: float) -> None:
        """Record a 429 within the window limit: the API counts more requests or allows fewer.

        Each 429 widens the margin. A further 429 within `QUIET_WINDOWS` windows also lowers the
        pace, if requests were accepted in between. If all requests are refused, the ceiling can't
        be determined from the 429s.
        """
        widest = self._window * (WIDEST_MARGIN - LARGEST_MARGIN)
        self._widened = min(self._widened + self._window * WIDENING, widest)
        self._forgive_at = now + FORGIVING_WINDOWS * self._window
        is_repeated = self._flows and now - self._struck_at < QUIET_WINDOWS * self._window
        if is_repeated and self.ceiling:
            accepted = sum(1 for sent_at in self._accepted if sent_at > now - self._window)
            # The requests of the last window may have been sent in an hour of a higher ceiling.
            allowed = min(self._allowed, max(self.ceiling, accepted))
            # A window with few requests does not show the ceiling.
            is_telling = accepted >= allowed / 2
            down = min(accepted, allowed - 1) if is_telling else allowed * STEP_DOWN
            self._allowed = max(1.0, down)
            self.found = self.allowed
            self._raise_at = now + self._window
        self._struck_at = now
        self._flows = False
