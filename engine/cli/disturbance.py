"""Outages of the API and its 429s, each followed as one thing that begins, counts and ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from engine.cli.text import clock_duration
from engine.delivery.events import Answered, Event
from engine.delivery.outcome import NotSent, Throttled, Unconfirmed
from engine.model.quantity import counted
from engine.pacing.gate import LONGEST_HOLD_SECONDS

OUTAGE_ATTEMPTS = 3
"""Attempts that fail one after another are an outage from this number on."""
CALM_SECONDS = 5.0
"""A disturbance ends with a good answer at least so long after the last bad one."""


class Kind(StrEnum):
    """The kinds of disturbances."""

    OUTAGE = "outage"
    """Requests cannot be sent, or get no conclusive answer."""
    THROTTLING = "throttling"
    """The API answers by 429, and everything is held."""


@dataclass(slots=True)
class Disturbance:
    """A disturbance, until now or until its end."""

    kind: Kind
    began: float
    """In seconds of the caller's clock, as the other times."""
    last: float
    """The time of the last bad answer."""
    attempts: int = 0
    """Attempts that failed, or got a 429."""
    other_attempts: int = 0
    """Attempts that succeeded meanwhile."""
    reason: str = ""
    """Of the last attempt."""
    is_over: bool = False

    def seconds(self, now: float) -> float:
        """Return how long it has lasted; it may be over from the last bad answer on."""
        return (self.last if self.is_over or self.other_attempts else now) - self.began

    def sentence(self, now: float) -> str:
        """Return one line with a count: `API down for 0:12, 14 attempts: connection refused`."""
        seconds = clock_duration(self.seconds(now))
        if self.kind is Kind.THROTTLING:
            count = counted(self.attempts, "request")
            verb = "was" if self.is_over else "is"
            return f"429 for {seconds}, {count}: everything {verb} held{self.reason}"
        if not self.other_attempts:
            return f"API down for {seconds}, {counted(self.attempts, 'attempt')}: {self.reason}"
        whole = self.attempts + self.other_attempts
        return f"API errors for {seconds}, {self.attempts:,} of {whole:,} attempts: {self.reason}"


def hold_clause(wait: float | None) -> str:
    """Return for how long a 429 asks to hold everything; nothing if it does not say."""
    if wait is None:
        return ""
    most = f", for {LONGEST_HOLD_SECONDS:g} s at the most" if wait > LONGEST_HOLD_SECONDS else ""
    return f", as it asks for {wait:g} s{most}"


class Disturbances:
    """Follows the disturbances of one workspace, by the outcomes of its attempts."""

    def __init__(self) -> None:
        self._current: dict[Kind, Disturbance] = {}
        self._failing: Disturbance | None = None
        """Attempts that failed since the last answer of the API; not yet an outage."""

    @property
    def current(self) -> list[Disturbance]:
        """Those that are not over, an outage first."""
        return sorted(self._current.values(), key=lambda each: each.kind)

    def fold(self, event: Event, now: float) -> Iterator[Disturbance]:
        """Count an event; yield each disturbance that begins or ends by it."""
        match event:
            case Answered(outcome=NotSent(is_kept_back=True)):
                return
            case Answered(outcome=NotSent(reason) | Unconfirmed(reason)):
                yield from self._failed(reason, now)
            case Answered(outcome=Throttled(wait)):
                yield from self._throttled(wait, now)
            case Answered():
                yield from self._answered(now)

    def end(self) -> Iterator[Disturbance]:
        """Yield each disturbance that is not over; it ends because nothing more is sent."""
        for each in self.current:
            yield self._over(each)

    def _failed(self, reason: str, now: float) -> Iterator[Disturbance]:
        found = self._current.get(Kind.OUTAGE) or self._failing
        if found is None:
            found = self._failing = Disturbance(Kind.OUTAGE, now, now)
        found.attempts += 1
        found.last, found.reason = now, reason
        if found is self._failing and found.attempts >= OUTAGE_ATTEMPTS:
            self._current[Kind.OUTAGE], self._failing = found, None
            yield found

    def _throttled(self, wait: float | None, now: float) -> Iterator[Disturbance]:
        yield from self._answered(now, but=Kind.THROTTLING)
        found = self._current.get(Kind.THROTTLING)
        is_new = found is None
        if found is None:
            found = self._current[Kind.THROTTLING] = Disturbance(Kind.THROTTLING, now, now)
        found.attempts += 1
        found.last = now
        found.reason = hold_clause(wait)
        if is_new:
            yield found

    def _answered(self, now: float, but: Kind | None = None) -> Iterator[Disturbance]:
        self._failing = None
        for each in self.current:
            if each.kind is not but:
                each.other_attempts += 1
                if now - each.last >= CALM_SECONDS:
                    yield self._over(each)

    def _over(self, disturbance: Disturbance) -> Disturbance:
        del self._current[disturbance.kind]
        disturbance.is_over = True
        return disturbance
