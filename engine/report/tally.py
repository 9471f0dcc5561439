"""A run while it goes on: events folded into the few numbers that a person watches."""

from dataclasses import dataclass, field

from engine.delivery.events import Answered, Event, Planned, Sent, Settled
from engine.delivery.outcome import BatchState, Throttled


@dataclass(slots=True)
class Tally:
    """Counts of one sitting, kept up by `fold`."""

    requests_allowed_per_second: float
    began: float
    """Seconds of the clock that `now` is told by, too."""
    planned: int = 0
    sent: int = 0
    throttled: int = 0
    uids: dict[BatchState, int] = field(default_factory=lambda: dict.fromkeys(BatchState, 0))
    first_sent: float | None = None
    last_sent: float | None = None

    def fold(self, event: Event, now: float) -> None:
        """Count an event."""
        match event:
            case Planned(uid_count):
                self.planned += uid_count
            case Sent():
                self.sent += 1
                self.first_sent = now if self.first_sent is None else self.first_sent
                self.last_sent = now
            case Answered(outcome=Throttled()):
                self.throttled += 1
            case Settled(_, state, uid_count):
                self.uids[state] += uid_count
            case _:
                pass

    @property
    def accepted(self) -> int:
        """Uids accepted."""
        return self.uids[BatchState.ACCEPTED]

    @property
    def settled(self) -> int:
        """Uids done with, one way or another."""
        return sum(self.uids.values())

    def uids_per_second(self, now: float) -> float:
        """Return the rate of acceptance since the first request."""
        seconds = now - (self.began if self.first_sent is None else self.first_sent)
        return self.accepted / seconds if seconds > 0 else 0.0

    @property
    def ceiling_use(self) -> float:
        """The share of the ceiling used from the first request to the last, as the books say it."""
        if self.first_sent is None or self.last_sent is None:
            return 0.0
        allowed = 1 + (self.last_sent - self.first_sent) * self.requests_allowed_per_second
        return self.sent / allowed

    def seconds_left(self, now: float, share_read: float | None) -> float | None:
        """Return when this rate is done with the export, of which `share_read` has been read.

        The uids to come are estimated by those planned so far; None as long as that says nothing.
        """
        rate = self.uids_per_second(now)
        if not share_read or not rate:
            return None
        return max(0.0, self.planned / share_read - self.settled) / rate
