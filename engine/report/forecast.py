"""When the cohorts of a sync would be done at the ceiling, and the sentence that says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from math import ceil
from typing import Any

from engine.model.quantity import counted
from engine.model.time_of_day import local_time
from engine.report.accounts import future_timestamp, timestamp


@dataclass(frozen=True, slots=True)
class CohortForecast:
    """How long a cohort is expected to take, from before its first request."""

    requests: int
    """Estimated requests."""
    is_exact: bool
    """Whether a plan was counted; otherwise it is estimated from the export and earlier runs."""
    done_utc_ns: int
    """When it would be done at the ceiling, after the cohorts before it."""
    deadline_utc_ns: int | None = None
    share_by_deadline: float = 1.0
    """The share of its requests that are sent by the deadline."""

    @property
    def is_late(self) -> bool:
        """Whether it is not done by its deadline."""
        return self.deadline_utc_ns is not None and self.done_utc_ns > self.deadline_utc_ns

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast's part of the JSON document."""
        deadline = self.deadline_utc_ns
        return {
            "requests": self.requests,
            "is_exact": self.is_exact,
            "done_at": future_timestamp(self.done_utc_ns),
            "deadline": None if deadline is None else timestamp(deadline),
            "share_by_deadline": round(self.share_by_deadline, 4),
        }


def forecast_sentence(
    forecasts: Sequence[tuple[str, CohortForecast]], zone: tzinfo | None, now_utc_ns: int
) -> str:
    """Return one sentence about all cohorts, in the order in which they are sent.

    `forecasts`: the name of each cohort, and its forecast. Times are of `zone`, or of that
    of the system, with the date if it is not that of `now_utc_ns`.
    """
    if not forecasts:
        return "nothing to send"
    requests = sum(each.requests for _, each in forecasts)
    about = "" if all(each.is_exact for _, each in forecasts) else "about "
    size = f"{about}{counted(requests, 'request')}"
    done = max(each.done_utc_ns for _, each in forecasts)
    now = local_time(now_utc_ns, zone)
    late = [(name, each) for name, each in forecasts if each.is_late]
    if not late:
        return f"{size}, done {_clock_time(_next_minute(done, zone), now)}"
    latest = max((each for _, each in late), key=_lateness)
    deadline = _next_minute(latest.deadline_utc_ns or 0, zone)
    by = _duration(_lateness(latest) / 1e9)
    punctual = [name for name, each in forecasts if not each.is_late]
    parts = [f"{_listed(punctual)} finish{'' if len(punctual) > 1 else 'es'}"] if punctual else []
    for name, each in late:
        share = int(each.share_by_deadline * 100)
        parts.append(f"{name} stops at {share} %" if share else f"{name} does not begin")
    return f"{size}; misses {_clock_time(deadline, now)} by {by}: {', '.join(parts)}"


def _next_minute(utc_ns: int, zone: tzinfo | None) -> datetime:
    """Return the local time, rounded up to the minute: nothing is promised too early."""
    return local_time(-(-utc_ns // _MINUTE_NS) * _MINUTE_NS, zone)


def _lateness(forecast: CohortForecast) -> int:
    return forecast.done_utc_ns - (forecast.deadline_utc_ns or forecast.done_utc_ns)


def _clock_time(moment: datetime, now: datetime) -> str:
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%d %b %H:%M}"


def _duration(seconds: float) -> str:
    """Return a duration rounded up to the minute, below a minute to the second: `2 h 40 min`."""
    if seconds <= _MINUTE - 1:
        return f"{max(1, ceil(seconds))} s"
    hours, minutes = divmod(ceil(seconds / _MINUTE), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_MINUTE = 60
_MINUTE_NS = _MINUTE * 1_000_000_000
