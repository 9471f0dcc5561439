"""The progress of a run: its events counted for the progress display."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.delivery.events import Answered, Event, Paused, Planned, Sent, Settled, Waiting
from engine.delivery.outcome import Accepted, Throttled
from engine.model.status import BatchState
from engine.report.accounts import share_of_ceiling

RATE_SECONDS = 60.0
"""The period of the rate: the default ceiling's window, so that bursts even out."""


@dataclass(slots=True)
class LiveCounts:
    """Counts of one run, updated by `fold`; requests and rates are those of this process."""

    requests_allowed_per_second: float
    began: float
    """In seconds of the clock that also gives `now`."""
    planned: int = 0
    sent: int = 0
    accepted_requests: int = 0
    throttled: int = 0
    uids: dict[BatchState, int] = field(default_factory=lambda: dict.fromkeys(BatchState, 0))
    first_sent: float | None = None
    last_sent: float | None = None
    allowed_between: Callable[[float, float], float] | None = None
    """Returns how many requests a ceiling that varies by the hour allows between two times."""
    whole: int | None = None
    """Uids of the whole run, from its plan; None if they are estimated."""
    settled_at: float | None = None
    """When earlier changes have settled; None if no uids wait for that."""
    held: int = 0
    """Uids that are sent only after `settled_at`."""
    waits_until: float | None = None
    """Until when nothing is sent, because earlier changes have to settle."""
    _sending_since: float | None = None
    """When the first request was sent; after a wait, the first request since the wait."""
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    """When batches were accepted in the last `RATE_SECONDS`, and how many uids they had."""

    def continue_from(self, accepted: int, rejected: int) -> None:
        """Begin with the uids that earlier processes have settled.

        A run that replaces another in the same process counts only its own uids.
        """
        self.planned = accepted + rejected
        self.uids.update(dict.fromkeys(BatchState, 0))
        self.uids[BatchState.ACCEPTED] = accepted
        self.uids[BatchState.REJECTED] = rejected
        self._recent.clear()

    def expect(
        self, whole: int, now: float, *, first: int | None, held: int, settle_seconds: float
    ) -> None:
        """Set the expected number of uids from a plan: all, or the `first` of the rest.

        `held` of them are sent only after `settle_seconds`.
        """
        self.whole = whole if first is None else min(whole, self.settled + first)
        if held and first is None:
            self.held, self.settled_at = held, now + settle_seconds

    def fold(self, event: Event, now: float) -> None:
        """Count an event."""
        match event:
            case Planned(uid_count):
                self.planned += uid_count
            case Sent():
                self.sent += 1
                self.first_sent = now if self.first_sent is None else self.first_sent
                self.last_sent = now
                self._sending_since = now if self._sending_since is None else self._sending_since
                self.waits_until = None
            case Answered(outcome=Accepted()):
                self.accepted_requests += 1
            case Answered(outcome=Throttled()):
                self.throttled += 1
            case Settled(_, state, uid_count):
                self.uids[state] += uid_count
                if state is BatchState.ACCEPTED:
                    self._recent.append((now, uid_count))
                    self._forget(now)
            case Waiting(seconds):
                self.settled_at = self.waits_until = now + seconds
                self._begin_anew()
            case Paused():
                self._begin_anew()
            case _:
                pass

    def _begin_anew(self) -> None:
        """Measure the rate from the next request on."""
        self._sending_since = None
        self._recent.clear()

    @property
    def accepted(self) -> int:
        """The number of accepted uids."""
        return self.uids[BatchState.ACCEPTED]

    @property
    def settled(self) -> int:
        """The number of uids that are accepted, rejected or left open."""
        return sum(self.uids.values())

    def uids_per_second(self, now: float) -> float:
        """Return the rate of acceptance in the last minute, or since the first request.

        A wait for earlier changes, or for the hour, does not count.
        """
        if self._sending_since is None:
            return 0.0
        self._forget(now)
        seconds = min(RATE_SECONDS, now - self._sending_since)
        return sum(uids for _, uids in tuple(self._recent)) / seconds if seconds > 0 else 0.0

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - RATE_SECONDS:
            self._recent.popleft()

    @property
    def ceiling_attempted(self) -> float:
        """The share of the ceiling that was sent, from the first request to the last."""
        return self._share(self.sent)

    @property
    def ceiling_accepted(self) -> float:
        """The share of the ceiling that was accepted, from the first request to the last."""
        return self._share(self.accepted_requests)

    def _share(self, requests: int) -> float:
        if self.first_sent is None or self.last_sent is None:
            return 0.0
        if self.allowed_between is not None:
            allowed = self.allowed_between(self.first_sent, self.last_sent)
        else:
            allowed = (self.last_sent - self.first_sent) * self.requests_allowed_per_second
        return share_of_ceiling(requests, 1 + allowed)

    def seconds_left(self, now: float, total: float | None) -> float | None:
        """Return the seconds until `total` uids are settled at this rate; None if unknown.

        It is at least the wait of the uids that are held until earlier changes settle.
        """
        if total is None:
            return None
        left = max(0.0, total, self.planned) - self.settled
        rate = self.uids_per_second(now)
        if not rate:
            return None if left else 0.0
        waited = 0.0
        if self.settled_at is not None and now < self.settled_at:
            waited = self.settled_at - now + min(left, self.held) / rate
        return max(left / rate, waited)
