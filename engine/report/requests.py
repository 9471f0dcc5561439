"""The requests of a period against their ceiling, in intervals: answers and latencies."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from engine.ledger.period_records import RequestCount, SendingPeriod
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import PacingSettings
from engine.report.accounts import Ceiling, CeilingSpending, share_of_ceiling, timestamp


class Answer(StrEnum):
    """The kinds of answers to a request."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"
    """429."""
    REFUSED = "refused"
    """Another status of 4xx, or a redirection."""
    SERVER_ERROR = "server_error"
    """A status of 5xx, or a body that is not the API's."""
    NONE = "none"
    """No answer, or none that was recorded."""

    @classmethod
    def of(cls, count: RequestCount) -> "Answer":
        """Return the kind of the answer to counted requests."""
        if count.outcome in {"accepted", "throttled"}:
            return cls(count.outcome)
        if count.http_status is None:
            return cls.NONE
        return cls.REFUSED if 300 <= count.http_status < 500 else cls.SERVER_ERROR  # noqa: PLR2004 - the classes of HTTP


@dataclass(slots=True)
class Interval:
    """The requests that were sent in one interval of the period."""

    answers: Counter[Answer] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    """Requests by milliseconds from the head to the end of the answer."""

    def count(self, found: RequestCount) -> None:
        """Count requests with the same answer."""
        self.answers[Answer.of(found)] += found.requests
        if found.milliseconds is not None:
            self.latencies[found.milliseconds] += found.requests

    def add(self, other: "Interval") -> None:
        """Add the requests of another interval."""
        self.answers += other.answers
        self.latencies += other.latencies

    @property
    def sent(self) -> int:
        """The number of requests."""
        return self.answers.total()

    def milliseconds(self, share: float) -> int | None:
        """Return the latency that a share of the answers did not exceed; None without answers."""
        rank = share * self.latencies.total()
        passed = 0
        for milliseconds, requests in sorted(self.latencies.items()):
            passed += requests
            if passed >= rank:
                return milliseconds
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return {
            "sent": self.sent,
            "answers": {answer.value: self.answers[answer] for answer in Answer},
            "latency_milliseconds": {
                f"p{share:.0%}".rstrip("%"): self.milliseconds(share) for share in PERCENTILES
            },
        }


def spending_together(
    runs: Sequence[CeilingSpending], periods: Iterable[SendingPeriod]
) -> CeilingSpending:
    """Return how some runs of a workspace used its ceiling together.

    In the accounts of runs at once, the same lost request is lost in each of them. Here times at
    which several runs were sending count once; what was lost in them is divided among the causes in
    proportion to the sums over the runs. There are no `other_runs`.
    """
    total = sum(runs, CeilingSpending())
    allowed = round(_allowed_in(periods), 3)
    lost, lost_by_runs = allowed - total.used, total.available - total.used
    if lost <= 0 or lost_by_runs <= 0:
        return CeilingSpending(allowed, total.used, late=round(lost, 3))
    causes = asdict(total)
    del causes["allowed"], causes["used"], causes["other_runs"]
    share = lost / lost_by_runs
    return CeilingSpending(
        allowed, total.used, **{cause: round(each * share, 3) for cause, each in causes.items()}
    )


def _allowed_in(periods: Iterable[SendingPeriod]) -> float:
    """Return how many requests the ceiling allowed in periods of which some overlap."""
    allowed, end = 0.0, -1
    for each in sorted(periods):
        if each.first_utc_ns > end:
            allowed += 1  # n requests at the ceiling's pace have n - 1 gaps between them.
            end = each.first_utc_ns
        new = max(0, each.last_utc_ns - end)
        settings = PacingSettings.from_record(each.requests, each.per_seconds, each.hours)
        allowed += HourlyCeiling(settings).allowed_between(end, end + new)
        end += new
    return allowed


PERCENTILES = (0.5, 0.95, 0.99)
_LEAST_LOSS = 0.1


@dataclass(frozen=True, slots=True)
class WorkspacePeriod:
    """The requests of one workspace in the period, against its ceiling."""

    target: str
    workspace: str
    ceiling: Ceiling
    """Of the last run."""
    spending: CeilingSpending
    """How the runs of the period used the ceiling together, also outside the period."""
    interval_seconds: int
    intervals_start_utc_ns: int
    intervals: Sequence[Interval]
    """From the first request of the period to the last, without gaps."""
    status_counts: Mapping[int | None, int]
    """Requests by HTTP status; None: without a response."""

    @property
    def total(self) -> Interval:
        """All requests."""
        total = Interval()
        for interval in self.intervals:
            total.add(interval)
        return total

    @property
    def allowed_each(self) -> float:
        """The largest number of requests that the ceiling allows in an interval."""
        return self.ceiling.most / self.ceiling.per_seconds * self.interval_seconds

    @property
    def use(self) -> float:
        """The share of the allowed requests that were sent, from 0 to 1."""
        return share_of_ceiling(self.spending.used, self.spending.allowed)

    @property
    def losses(self) -> Sequence[tuple[str, float, float]]:
        """The causes of unused requests, with the requests and their share, the largest first.

        Causes below a tenth of a request are left out.
        """
        spent = self.spending
        lost = {
            name: requests
            for name, requests in asdict(spent).items()
            if name not in {"allowed", "used"} and requests >= _LEAST_LOSS
        }
        found = sorted(lost.items(), key=lambda each: -each[1])
        return [(name, requests, requests / spent.allowed) for name, requests in found]

    def coarser(self, most: int) -> "WorkspacePeriod":
        """Return the same requests in at most `most` intervals."""
        factor = -(-len(self.intervals) // most) or 1
        intervals = []
        for start in range(0, len(self.intervals), factor):
            interval = Interval()
            for each in self.intervals[start : start + factor]:
                interval.add(each)
            intervals.append(interval)
        return replace(self, interval_seconds=self.interval_seconds * factor, intervals=intervals)

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        width = self.interval_seconds * 1_000_000_000
        return {
            "target": self.target,
            "workspace": self.workspace,
            "ceiling": asdict(self.ceiling),
            "ceiling_spending": asdict(self.spending),
            "requests": self.total.to_dict(),
            "http_statuses": {str(status or "none"): n for status, n in self.status_counts.items()},
            "interval_seconds": self.interval_seconds,
            "intervals": [
                {"at": timestamp(self.intervals_start_utc_ns + number * width), **each.to_dict()}
                for number, each in enumerate(self.intervals)
            ],
        }
