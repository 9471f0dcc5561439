"""When the cohorts of a workspace would be done if they were sent one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.report.forecast import CohortForecast


@dataclass(frozen=True, slots=True)
class Job:
    """The requests of one cohort that are still to be sent."""

    requests: int
    is_exact: bool
    """Whether a plan was counted; otherwise it is estimated."""
    deadline_utc_ns: int | None = None
    settle_seconds: float = 0.0
    """How long the last of its requests must wait; other cohorts are sent meanwhile."""


def timetable(
    jobs: Sequence[Job], seconds_per_request: float, now_utc_ns: int
) -> Iterator[CohortForecast]:
    """Yield the forecast of each job, in the order in which they are sent at the ceiling."""
    ahead = 0
    for job in jobs:
        done = _after(ahead + job.requests, seconds_per_request, now_utc_ns)
        if job.requests:
            done = max(done, _after(job.settle_seconds, 1.0, now_utc_ns))
        share = 1.0
        deadline = job.deadline_utc_ns
        if deadline is not None and done > deadline and job.requests:
            in_time = (deadline - now_utc_ns) / 1e9 / seconds_per_request - ahead
            share = min(1.0, max(0.0, in_time / job.requests))
        yield CohortForecast(job.requests, job.is_exact, done, deadline, share)
        ahead += job.requests


def _after(count: float, seconds_each: float, now_utc_ns: int) -> int:
    return now_utc_ns + round(count * seconds_each * 1e9)
