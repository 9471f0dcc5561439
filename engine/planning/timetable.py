"""When the cohorts of a workspace would be done if they were sent one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.pacing.hourly_ceiling import HourlyCeiling
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


def sent_at(requests: int, ceiling: HourlyCeiling, now_utc_ns: int) -> int:
    """Return when the last of some requests is sent at the ceiling, the first as soon as allowed.

    A pause, in which the hours allow no request, delays the first one, too.
    """
    if not requests:
        return now_utc_ns
    return ceiling.done_at(requests - 1, ceiling.resumes_at(now_utc_ns))


def timetable(
    jobs: Sequence[Job], ceiling: HourlyCeiling, now_utc_ns: int
) -> Iterator[CohortForecast]:
    """Yield the forecast of each job, in the order in which they are sent at the ceiling."""
    ahead = 0
    for job in jobs:
        done = ceiling.done_at(ahead + job.requests, now_utc_ns)
        if job.requests:
            done = max(done, now_utc_ns + round(job.settle_seconds * 1e9))
        share = 1.0
        deadline = job.deadline_utc_ns
        if deadline is not None and done > deadline and job.requests:
            in_time = ceiling.allowed_between(now_utc_ns, deadline) - ahead
            share = min(1.0, max(0.0, in_time / job.requests))
        yield CohortForecast(job.requests, job.is_exact, done, deadline, share)
        ahead += job.requests
