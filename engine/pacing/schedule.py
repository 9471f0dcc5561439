"""The window limit over the requests sent; pure, times are seconds of one clock.

The API counts a request at some time between its send and its answer. The limit keeps when requests
ended, that is, were answered or failed. The next send may go

    window + (the `requests`-th largest end) - shortest + slack

where `shortest` is the shortest of the recent round trips. Then no window of the API holds more
than `requests`. Take any `requests` + 1 requests, and the one of them that was sent last. Of the
others, one has an end that was not above the `requests`-th largest at that send. The API counted it
`back` seconds or more before its end, and the last one `way` seconds or more after its send, where
`way` and `back` are the shortest times to the API, and from there to the answer. So it counted the
two a window + `way` + `back` - `shortest` + slack or more apart. `shortest` is `way` + `back`, or
longer by less than the slack.

A request without an end may still be counted at any time, so its end counts as infinite. An answer
other than an acceptance may take less than `back`; so `shortest` is not subtracted from its end,
and its round trip is not compared. A failure is the end of a request, since nothing later is known.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from engine.pacing.settings import PacingSettings

SMALLEST_SLACK = 1 / 1800
"""The slack while there are no 429s, as a share of the window: 33 ms of a minute.

The two hosts' clocks may differ in rate by 500 ppm, which is 30 ms of a minute. Clocks that NTP
keeps differ by less than 50 ppm; then 30 ms are left for an answer that takes less time than all
recent ones did.
"""
LARGEST_MARGIN = 1 / 50
"""The most that ends and slack add to the window, as a share of it: it bounds the cost of an API
whose answers vary by seconds.

At 1 %, it would cost a 429 now and then where few requests arrive late: if 3 of 300 are on their
way at the same time, the next send has to wait for 3 slots, which is 1 % of the window.
"""
RECENT_ROUND_TRIPS = 100
"""The fewest round trips of which the shortest is taken; more if a window has more requests."""
TRUSTED_ROUND_TRIPS = 20
"""Round trips before the shortest is used; until then it counts as 0."""
STEP_DOWN = 0.9
"""The factor of a step down if too few acceptances show the API's ceiling."""
STEP_UP = 0.02
"""The step up after a window without a 429, as a share of the configured ceiling."""
WIDENING = 1 / 200
"""The increase of the slack per 429, as a share of the window."""
FORGIVING_WINDOWS = 10
"""Windows without a 429 after which the slack shrinks by the increase of one 429."""
QUIET_WINDOWS = 3
"""Windows without a 429 after which the next 429 counts as the first again."""


class PastSend(NamedTuple):
    """A request of an earlier process, or of an earlier pacer."""

    sent_at: float
    ended_at: float
    """When it was answered, or failed; not before `sent_at`."""


class Schedule:
    """Computes the time of the next send, so that no window exceeds the ceiling.

    A send and its end take a search in the sorted ends, of which there are at most 2 x `requests`.
    """

    def __init__(self, settings: PacingSettings, log: Iterable[PastSend] = ()) -> None:
        self._most = settings.most
        self._window = settings.per_seconds
        self.ceiling = settings.requests
        """The ceiling in force, which may vary by the hour: requests in a window."""
        self._accepted: deque[float] = deque(maxlen=self._most)
        self._round_trips = 0
        """The number of round trips so far."""
        self._slack = self._window * SMALLEST_SLACK
        self._forgive_at = float("inf")
        self._recent = max(self._most, RECENT_ROUND_TRIPS)
        self._shortest: deque[tuple[int, float]] = deque()
        """The recent round trips, numbered, that are shorter than all later ones."""
        self.replace_log(log)
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
        """Seconds by which the next send is later than a window after the `allowed`-th last one.

        It is 0 if the window limit does not apply.
        """
        return self._margin(self.allowed)

    def _margin(self, allowed: int) -> float:
        if not allowed or len(self._sends) < allowed:
            return 0.0
        largest = self._window * LARGEST_MARGIN
        rank = allowed - len(self._open)
        if rank <= 0:
            return largest
        end = self._ends[-rank] - self.shortest + self._slack
        return min(end - self._sends[-allowed], largest)

    @property
    def shortest(self) -> float:
        """The shortest recent round trip in seconds; 0 while too few are known."""
        is_trusted = self._round_trips >= TRUSTED_ROUND_TRIPS
        return self._shortest[0][1] if is_trusted else 0.0

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
        if len(self._sends) < allowed:
            limit = float("-inf")
        else:
            limit = self._sends[-allowed] + self._window + self._margin(allowed)
        if allowed == self.ceiling or not self._sends:
            return limit
        # Below the configured pace, the bucket is too fast. Even spacing suits any kind of limit.
        return max(limit, self._sends[-1] + (self._window + self._slack) / allowed)

    @property
    def last_send(self) -> float:
        """The time of the latest send; minus infinity if there is none."""
        return self._sends[-1] if self._sends else float("-inf")

    def replace_log(self, log: Iterable[PastSend]) -> None:
        """Take the sends in `log` in place of those so far; what was learnt remains."""
        log = list(log)
        self._sends = deque(sorted(each.sent_at for each in log), maxlen=self._most)
        self._ends = sorted(each.ended_at for each in log)
        """In ascending order; the `most` largest matter."""
        self._open: list[float] = []
        """When each request without an end was sent."""
        if log:
            # Some of them may have failed, so nothing is subtracted from their ends.
            self._record_round_trip(0.0)

    def record_send(self, at: float) -> None:
        """Add a send, which has no end until `record_end`."""
        self._sends.append(at)
        self._open.append(at)

    def record_end(self, sent_at: float, now: float, *, is_accepted: bool = False) -> None:
        """Record that a request was answered now, or has failed.

        A request that `replace_log` has taken out is ignored.
        """
        if sent_at not in self._open:
            return
        self._open.remove(sent_at)
        if is_accepted:
            self._record_round_trip(now - sent_at)
        insort(self._ends, now if is_accepted else now + self.shortest)
        if len(self._ends) > 2 * self._most:
            del self._ends[: self._most]

    def _record_round_trip(self, seconds: float) -> None:
        shortest, number = self._shortest, self._round_trips
        while shortest and shortest[-1][1] >= seconds:
            shortest.pop()
        shortest.append((number, seconds))
        if shortest[0][0] <= number - self._recent:
            shortest.popleft()
        self._round_trips += 1

    def record_acceptance(self, sent_at: float, now: float) -> None:
        """Record an acceptance; after a window without a 429, raise the allowed number."""
        self._accepted.append(sent_at)
        self._flows = True
        if now >= self._forgive_at:
            smallest = self._window * SMALLEST_SLACK
            self._slack = max(smallest, self._slack - self._window * WIDENING)
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

        Each 429 widens the slack. A further 429 within `QUIET_WINDOWS` windows also lowers the
        pace, if requests were accepted in between. If all requests are refused, the ceiling can't
        be determined from the 429s.
        """
        largest = self._window * LARGEST_MARGIN
        self._slack = min(self._slack + self._window * WIDENING, largest)
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
