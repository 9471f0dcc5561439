"""The ceiling at each moment of the wall clock, if it varies by the hour.

The law: any window of `per_seconds`, wherever it lies, holds at most as many requests as the lowest
ceiling that is configured for any moment in it.

A window that holds a request sent at t lies within a window before and a window after t. So the
ceiling in force at t is the lowest one configured for any moment of these two windows: a lower
ceiling takes force a window before its hours and stays in force a window after them. A request is
sent at t if fewer requests than the ceiling in force at t were sent in the window that ends at t.
Then the law holds: take the last request of any window; at its time, the window's other requests
were in the window that ended there, and each moment of the window counted for the ceiling in force.

The hours apply to each moment whose local time of day is in them. Where the clocks go back, they
apply to both passes of a time; a time that the clocks skip does not occur.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from engine.model.time_of_day import local_time
from engine.pacing.schedule import LARGEST_MARGIN
from engine.pacing.settings import PacingSettings

_SECOND_NS = 1_000_000_000
_MINUTE_NS = 60 * _SECOND_NS
"""Hours begin and end at whole minutes, and so do changes of the clocks."""
_DAY_NS = 86_400 * _SECOND_NS

Steps = Sequence[tuple[int, int]]
"""Moments in ns since 1970, and the requests that a window may hold from then on."""


@dataclass(frozen=True, slots=True)
class HourlyCeiling:
    """The ceiling in force over time; moments are ns since 1970, by the wall clock."""

    settings: PacingSettings

    def requests_at(self, utc_ns: int) -> int:
        """Return how many requests the window that ends at a moment may hold."""
        if not self.settings.hours:
            return self.settings.requests
        return self._segment(utc_ns)[1]

    def next_change(self, utc_ns: int) -> int:
        """Return the end of the time for which the ceiling is known to be as at a moment."""
        return self._segment(utc_ns)[0]

    def allowed_between(self, start_ns: int, end_ns: int) -> float:
        """Return how many requests the ceiling allows between two moments."""
        if not self.settings.hours:
            return self._allowed(max(0, end_ns - start_ns), self.settings.requests)
        allowed = 0.0
        for begin, end, requests in self._segments(start_ns):
            if begin >= end_ns:
                break
            allowed += self._allowed(min(end, end_ns) - begin, requests)
        return allowed

    def done_at(self, count: float, start_ns: int) -> int:
        """Return the moment until which the ceiling allows `count` requests since another."""
        left = count
        for begin, end, requests in self._segments(start_ns):
            allowed = self._allowed(end - begin, requests)
            if left <= allowed:
                seconds = left * self.settings.per_seconds / requests if left else 0.0
                return begin + round(seconds * _SECOND_NS)
            left -= allowed
        raise AssertionError("there is always another segment")

    def resumes_at(self, utc_ns: int) -> int:
        """Return the first moment, at or after another, at which a request may be sent."""
        return next(begin for begin, _, requests in self._segments(utc_ns) if requests)

    @property
    def is_ever_open(self) -> bool:
        """Whether there is a time of the day at which requests may be sent."""
        return any(requests for _, requests in _steps_of_day(self.settings, 0))

    def _allowed(self, duration_ns: int, requests: int) -> float:
        return duration_ns / _SECOND_NS * requests / self.settings.per_seconds

    def _segment(self, utc_ns: int) -> tuple[int, int]:
        _, end, requests = next(self._segments(utc_ns))
        return end, requests

    def _segments(self, start_ns: int) -> Iterator[tuple[int, int, int]]:
        """Yield begin, end and ceiling of the times from a moment on, without an end."""
        settings = self.settings
        if not settings.hours:
            yield start_ns, _FOREVER_NS, settings.requests
        day = start_ns // _DAY_NS
        while True:
            steps = [*_steps_of_day(settings, day), ((day + 1) * _DAY_NS, 0)]
            for (begin, requests), (end, _) in pairwise(steps):
                if end > start_ns:
                    yield max(begin, start_ns), end, requests
            day += 1


_FOREVER_NS = 1 << 80


@lru_cache(maxsize=32)
def _steps_of_day(settings: PacingSettings, day: int) -> Steps:
    """Return the ceiling in force during a day of UTC, counted from 1970."""
    start, end = day * _DAY_NS, (day + 1) * _DAY_NS
    reach = round(settings.per_seconds * (1 + LARGEST_MARGIN) * _SECOND_NS)
    configured = _configured(settings, start - 2 * reach, end + 2 * reach)
    changes = (moment + shift for moment, _ in configured for shift in (-reach, reach))
    moments = sorted({start, *(each for each in changes if start < each < end)})
    steps: list[tuple[int, int]] = []
    for moment in moments:
        requests = _lowest(configured, moment - reach, moment + reach)
        if not steps or steps[-1][1] != requests:
            steps.append((moment, requests))
    return steps


def _configured(settings: PacingSettings, start_ns: int, end_ns: int) -> Steps:
    """Return the ceiling by the hours alone, from the minute of a moment to another moment."""
    steps: list[tuple[int, int]] = []
    for minute in range(start_ns // _MINUTE_NS, end_ns // _MINUTE_NS + 1):
        at = local_time(minute * _MINUTE_NS, settings.zone).time()
        requests = settings.requests_by_clock(at)
        if not steps or steps[-1][1] != requests:
            steps.append((minute * _MINUTE_NS, requests))
    return steps


def _lowest(steps: Steps, start_ns: int, end_ns: int) -> int:
    """Return the lowest ceiling between two moments, both included."""
    moments = [moment for moment, _ in steps]
    first, last = bisect_right(moments, start_ns) - 1, bisect_right(moments, end_ns)
    return min(requests for _, requests in steps[max(0, first) : last])
