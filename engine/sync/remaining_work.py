"""The requests that the cohorts of one workspace have still to send, and when they are done."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.planning.timetable import Job, timetable
from engine.report.forecast import CohortForecast


@dataclass(slots=True)
class _Work:
    job: Job
    sent: int = 0
    is_done: bool = False


class RemainingWork:
    """Follows the requests of each cohort, in the order in which they are sent."""

    def __init__(self, deadlines: Mapping[str, int | None], ceiling: HourlyCeiling) -> None:
        """`deadlines`: of each cohort by its key, in ns since 1970; None: it has none."""
        self._ceiling = ceiling
        self._work = {
            key: _Work(Job(0, is_exact=False, deadline_utc_ns=deadline))
            for key, deadline in deadlines.items()
        }

    def expect(
        self, key: str, requests: int, *, is_exact: bool, settle_seconds: float = 0.0
    ) -> None:
        """Note how many requests a cohort takes in all, estimated or by its plan."""
        work = self._work[key]
        work.job = replace(
            work.job, requests=requests, is_exact=is_exact, settle_seconds=settle_seconds
        )

    def note_sent(self, key: str) -> None:
        """Note that a cohort has sent a request."""
        self._work[key].sent += 1

    def note_done(self, key: str) -> None:
        """Note that a cohort sends no more."""
        self._work[key].is_done = True

    def forecasts(self, now_utc_ns: int) -> dict[str, CohortForecast]:
        """Return the forecast of each cohort that is not done, by its key, in their order."""
        left = {key: each for key, each in self._work.items() if not each.is_done}
        jobs = [
            replace(each.job, requests=max(0, each.job.requests - each.sent))
            for each in left.values()
        ]
        found = timetable(jobs, self._ceiling, now_utc_ns)
        return dict(zip(left, found, strict=True))
