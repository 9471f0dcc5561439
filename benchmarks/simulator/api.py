"""A model of the API: what it makes of each arrival, and what it counted.

It judges by exact arrival times in their order, however late our own loop wakes. Of the contract it
models acceptance, the limit and bad hours; it never looks into a payload.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from engine.delivery.answer_reading import Answer
from engine.pacing.settings import PacingSettings
from simulator.latency import Latency, Trip, steady

ACCEPTED = Answer(200, {}, b'{"status":"success","message":"will be processed soon"}')


class Limiter(Protocol):
    """One kind of limit. Arrivals that it refuses count like others: the worst that it may do."""

    def admit(self, at: float) -> bool:
        """Judge an arrival, not earlier than the one before."""


class SlidingWindow:
    """At most `requests` in any stretch of `per_seconds`."""

    def __init__(self, ceiling: PacingSettings) -> None:
        self._per_seconds = ceiling.per_seconds
        self._arrivals: deque[float] = deque(maxlen=ceiling.requests)

    def admit(self, at: float) -> bool:
        """Admit what comes a window after the `requests`-th before it."""
        arrivals = self._arrivals
        is_full = len(arrivals) == arrivals.maxlen and at - arrivals[0] < self._per_seconds
        arrivals.append(at)
        return not is_full


class FixedWindow:
    """At most `requests` in each stretch of `per_seconds`, the first of which begins at `phase`."""

    def __init__(self, ceiling: PacingSettings, phase: float = 0.0) -> None:
        self._ceiling = ceiling
        self._phase = phase
        self._window = -math.inf
        self._used = 0

    def admit(self, at: float) -> bool:
        """Admit while the window that `at` is in has room."""
        window = math.floor((at - self._phase) / self._ceiling.per_seconds)
        self._used = self._used + 1 if window == self._window else 1
        self._window = window
        return self._used <= self._ceiling.requests


class TokenBucket:
    """A token a request, refilled evenly, of which it holds `burst` at most, and at first."""

    def __init__(self, ceiling: PacingSettings, burst: int | None = None) -> None:
        self._rate = ceiling.requests / ceiling.per_seconds
        self._burst = burst or ceiling.requests
        self._tokens = float(self._burst)
        self._since = 0.0

    def admit(self, at: float) -> bool:
        """Admit where there is a token; a refusal takes what there is of one."""
        refilled = self._tokens + (at - self._since) * self._rate
        self._since = at
        # Half a billionth of a token is rounding, not haste.
        tokens = min(refilled, self._burst) + 5e-10
        self._tokens = max(tokens - 1, 0.0)
        return tokens >= 1


class CellRate:
    """GCRA: arrivals evenly spaced, of which `burst` may come at once."""

    def __init__(self, ceiling: PacingSettings, burst: int = 5) -> None:
        self._spacing = ceiling.per_seconds / ceiling.requests
        self._tolerance = (burst - 1) * self._spacing
        self._due = -math.inf

    def admit(self, at: float) -> bool:
        """Admit what comes no more than the burst before it is due."""
        due = max(self._due, at)
        is_admitted = due - at <= self._tolerance + 1e-9
        # A refusal counts too, but never puts off more than one arrival beyond the burst.
        self._due = min(due, at + self._tolerance) + self._spacing
        return is_admitted


def every_limiter(ceiling: PacingSettings, phase: float = 0.0) -> dict[str, Limiter]:
    """Return one of each kind, the fixed window beginning at `phase`."""
    return {
        "sliding": SlidingWindow(ceiling),
        "fixed": FixedWindow(ceiling, phase),
        "bucket": TokenBucket(ceiling),
        "gcra": CellRate(ceiling),
    }


class MostInWindow:
    """The most moments in any stretch of `per_seconds`."""

    def __init__(self, per_seconds: float) -> None:
        self._per_seconds = per_seconds
        self._recent: deque[float] = deque()
        self.most = 0

    def add(self, at: float) -> None:
        """Count a moment, not earlier than the one before; one a whole window old is out."""
        recent = self._recent
        recent.append(at)
        while at - recent[0] >= self._per_seconds:
            recent.popleft()
        self.most = max(self.most, len(recent))


@dataclass(frozen=True, slots=True)
class BadHour:
    """Every arrival from `start` until `end` gets this answer, whatever the limit says."""

    start: float
    end: float
    status: int | None
    """None: the request arrives, and no answer ever comes."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Arrival:
    """A request under way to the API, or there."""

    trip: Trip
    answer: Answer | None = None
    """None until it was judged, and if no answer ever comes."""


class Api:
    """Answers arrivals: refuses what any of its limiters refuses, and counts by each."""

    def __init__(
        self,
        ceiling: PacingSettings,
        limiters: Mapping[str, Limiter],
        latency: Latency | None = None,
        bad_hours: Sequence[BadHour] = (),
        clock_rate: float = 1.0,
    ) -> None:
        """Its clock advances by `clock_rate` seconds in a second of ours."""
        self._limiters = limiters
        self._latency = latency or steady()
        self._bad_hours = bad_hours
        self._under_way: list[tuple[float, int, Arrival]] = []
        self._next_number = count()
        self._clock_rate = clock_rate
        self._in_window = MostInWindow(ceiling.per_seconds)
        self.answers: Counter[int | None] = Counter()
        """Arrivals by the status of their answer; None where none came."""
        self.refused = dict.fromkeys(limiters, 0)
        """Arrivals that each limiter would not have admitted."""

    @property
    def most_in_window(self) -> int:
        """The most arrivals in any window of its clock."""
        return self._in_window.most

    def send(self, now: float) -> Arrival:
        """Let a request leave at `now`."""
        arrival = Arrival(self._latency(now))
        entry = (now + arrival.trip.to_arrival, next(self._next_number), arrival)
        heapq.heappush(self._under_way, entry)
        return arrival

    def judge_until(self, now: float) -> None:
        """Answer what has arrived by `now`; nothing that leaves later can arrive before that."""
        while self._under_way and self._under_way[0][0] <= now:
            at, _, arrival = heapq.heappop(self._under_way)
            arrival.answer = self._judge(at)
            self.answers[arrival.answer.status if arrival.answer else None] += 1

    def _judge(self, at: float) -> Answer | None:
        by_its_clock = at * self._clock_rate
        self._in_window.add(by_its_clock)
        refusing = [
            name for name, limiter in self._limiters.items() if not limiter.admit(by_its_clock)
        ]
        for name in refusing:
            self.refused[name] += 1
        for hour in self._bad_hours:
            if hour.start <= at < hour.end:
                return None if hour.status is None else Answer(hour.status, hour.headers, b"")
        return Answer(429, {}, b"") if refusing else ACCEPTED
