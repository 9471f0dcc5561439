"""Events of a delivery, for observers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from engine.delivery.outcome import Outcome
from engine.model.status import BatchState


@dataclass(frozen=True, slots=True)
class Planned:
    """A batch was cut from the export, or found open in the ledger."""

    uid_count: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A request's head was sent."""

    batch: int
    attempt: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Answered:
    """An attempt ended with an outcome."""

    batch: int
    attempt: int
    outcome: Outcome
    seconds: float
    """From the head to the outcome; from the start of the attempt if no head was sent."""
    http_status: int | None = None
    """None without a response."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch was settled for this execution."""

    batch: int
    state: BatchState
    uid_count: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Divided:
    """A batch was replaced with its halves."""

    batch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """Intake has stopped; the delivery waits for requests in flight."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is sent for `seconds`, until earlier changes have settled."""

    seconds: float
    until: datetime
    """In the zone of the sync."""

    @property
    def sentence(self) -> str:
        """The event in words."""
        return (
            f"waiting until {_next_minute(self.until):%H:%M} ({ceil(self.seconds):,} s): until "
            "then the API may apply earlier changes of the same uids (mirror.settle_seconds)"
        )


@dataclass(frozen=True, slots=True)
class Paused:
    """Nothing is sent until a time, because `limits.hours` allow no request."""

    until: datetime
    """In the zone of the hours."""

    @property
    def sentence(self) -> str:
        """The event in words; the time is rounded up to the minute."""
        until = _next_minute(self.until)
        return f"nothing is sent until {until:%H:%M}, as `limits.hours` allow no request"


def _next_minute(moment: datetime) -> datetime:
    """Return a moment of the minute at whose begin `moment` has passed."""
    return moment + timedelta(seconds=59, microseconds=999_999)


@dataclass(frozen=True, slots=True)
class EventSource:
    """The run that an event belongs to."""

    workspace: str
    cohort_id: str
    run: str


Event = Planned | Sent | Answered | Settled | Divided | Stopping | Waiting | Paused
Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event with its run, so that an observer can follow several runs."""

    source: EventSource
    event: Event


RunObserver = Callable[[RunEvent], None]
