"""What the ledger holds of a period: requests by answer, times of sending, rejections, members."""

from typing import NamedTuple


class RequestCount(NamedTuple):
    """Requests of one run in one interval, with the same answer and about the same latency."""

    interval: int
    """The number of the interval, counted from 1970, UTC."""
    outcome: str | None
    """None if the process died before it recorded an outcome."""
    http_status: int | None
    """None without a response."""
    milliseconds: int | None
    """From the request's head to the end of the answer, rounded down to two significant digits.

    None without a response."""
    requests: int


class SendingPeriod(NamedTuple):
    """From the first request of a process for a run to the last one."""

    first_utc_ns: int
    last_utc_ns: int
    requests: int
    """The process's ceiling: this many requests …"""
    per_seconds: float
    """… in any window of so many seconds."""
    hours: str
    """By `PacingSettings.hours_record`."""


class ReasonCount(NamedTuple):
    """Rejected uids, or invalid rows, of one run with the same reason."""

    kind: str
    """`rejected` or `invalid`."""
    reason: str
    """Without the API's own message, which may quote a uid."""
    rows: int
    request_ids: tuple[str, ...]
    """At most two of the API's request ids; none for invalid rows."""


class MemberCount(NamedTuple):
    """The members of a cohort, as of one of its snapshots."""

    partner: str
    cohort_id: str
    cohort_name: str | None
    """The name of its last run; None if it has no run."""
    made_utc_ns: int
    members: int
    unknown: int
    """Uids that may or may not be members."""
