"""Moments, durations and statuses in words, for people."""

from datetime import datetime

from engine.report.period import Change, CohortPeriod, Level
from engine.report.requests import Answer
from engine.source.source_file import SourceFile, format_bytes

SIGNS = {Level.OK: "✓", Level.ATTENTION: "!", Level.FAILED: "✗", Level.EMPTY: "○"}
"""A sign of each level, for those who do not see its color."""

ANSWERS = {
    Answer.ACCEPTED: "accepted",
    Answer.THROTTLED: "429, over the ceiling",
    Answer.REFUSED: "refused (other 4xx)",
    Answer.SERVER_ERROR: "server error (5xx)",
    Answer.NONE: "no answer",
}
LOSSES = {
    "held": "the gate was closed after a 429",
    "input": "the export was slower than the ceiling",
    "in_flight": "all requests waited for slow answers or for a retry",
    "margin": "the window was stretched: the API counts a request until its answer",
    "late": "late wake-ups, connecting, a pace below the ceiling",
    "unrecorded": "the process died before it recorded why",
}
"""Why requests that the ceiling allowed were not sent: the fields of `CeilingSpending`."""

STATUSES = {
    "finished": "done",
    "up_to_date": "up to date",
    "missing": "no export",
    "not_begun": "not begun",
    "not_ended": "not ended",
    "guarded": "stopped by a guard",
    "refused": "refused by the API",
    "source_failed": "export unreadable",
    "canary": "partly sent",
}
"""The statuses whose names do not explain themselves."""


def status_of(cohort: CohortPeriod) -> str:
    """Return the status of a cohort in words."""
    if cohort.status == "finished" and cohort.level is not Level.OK:
        return "done, in part"
    return STATUSES.get(cohort.status, cohort.status.replace("_", " "))


def moment(utc_ns: int) -> str:
    """Return a time to the minute, in this machine's time zone: `27 Nov 2026 06:10`."""
    local = local_time(utc_ns)
    return f"{local.day} {local:%b %Y %H:%M}"


def short_moment(utc_ns: int) -> str:
    """Return a time without the year: `27 Nov 06:10`."""
    local = local_time(utc_ns)
    return f"{local.day} {local:%b %H:%M}"


def day(utc_ns: int) -> str:
    """Return a day: `27 Nov`."""
    local = local_time(utc_ns)
    return f"{local.day} {local:%b}"


def zone(utc_ns: int) -> str:
    """Return the name of this machine's time zone, with its offset: `UTC` or `CET (UTC+01:00)`."""
    local = local_time(utc_ns)
    name, offset = local.tzname() or "", f"{local:%z}"
    offset = f"UTC{offset[:3]}:{offset[3:5]}"
    return (
        name if name == "UTC" else offset if name.lstrip("+-").isdigit() else f"{name} ({offset})"
    )


def local_time(utc_ns: int) -> datetime:
    """Return a time in this machine's time zone."""
    return datetime.fromtimestamp(utc_ns / 1e9).astimezone()


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `1 h 12 min`, `8 min 3 s`, `2.4 s`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s" if seconds >= _SHORT else f"{round(seconds, 1):g} s"
    whole = round(seconds)
    for unit, name, part, part_name in _UNITS:
        if whole >= unit:
            rest = whole % unit // part
            return (
                f"{whole // unit} {name} {rest} {part_name}" if rest else f"{whole // unit} {name}"
            )
    raise AssertionError(seconds)


_SHORT, _MINUTE = 10, 59.5
"""Below the first, in seconds, tenths are shown; below the second, no minutes."""
_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def age_of(file: SourceFile, at_utc_ns: int) -> str:
    """Return how old a file was at a moment, with its size: `2.1 MB, 47 min old`."""
    parts = []
    if file.bytes is not None:
        parts.append(format_bytes(file.bytes))
    if file.written_utc_ns is None:
        parts.append("age unknown")
    else:
        minutes = max(0, at_utc_ns - file.written_utc_ns) // 60_000_000_000
        parts.append(f"{duration(minutes * 60) if minutes else 'under 1 min'} old")
    return ", ".join(parts)


def summary_of(change: Change) -> str:
    """Return what changed in one line: `3,600 added, 1,740 removed, 1 rejected`."""
    counts = (
        (change.added, "added"),
        (change.removed, "removed"),
        (change.unchanged, "unchanged"),
        (change.rejected, "rejected"),
        (change.unknown, "unknown"),
        (change.pending, "not sent"),
    )
    shown = [f"{count:,} {noun}" for count, noun in counts if count]
    return ", ".join(shown) or "nothing changed"
