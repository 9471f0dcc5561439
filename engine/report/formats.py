"""Moments, durations and statuses in words, for people."""

import re
from collections.abc import Sequence
from itertools import groupby

from engine.model.quantity import counted
from engine.model.time_of_day import local_time
from engine.report.accounts import Accounts
from engine.report.period import Change, CohortPeriod, FailedAttempt, Level
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
    return _status_words(cohort.status)


def _status_words(status: str) -> str:
    return STATUSES.get(status, status.replace("_", " "))


def reason_of(cohort: CohortPeriod) -> str | None:
    """Return the reason of a cohort's status without the command that is its next step."""
    reason, step = cohort.reason, cohort.next_step
    if reason is None or step is None:
        return reason
    return re.sub(rf"; `{re.escape(step.command)}` [a-z ]+", "", reason)


def result_of(cohort: CohortPeriod) -> str:
    """Return what changed in a cohort, with its status unless a run is done completely."""
    if cohort.change is None:
        return status_of(cohort)
    changed = summary_of(cohort.change)
    if cohort.status == "finished" and cohort.level is Level.OK:
        return changed
    return f"{status_of(cohort)}, {changed}"


def attempts_in_words(attempts: Sequence[FailedAttempt]) -> list[str]:
    """Return when attempts failed, and why: `27 Nov 02:10 stopped by a guard: …`.

    Those in a row with the same reason are one sentence, and only the last few are told.
    """
    rows = [list(each) for _, each in groupby(attempts, lambda each: (each.status, each.reason))]
    earlier = sum(map(len, rows[:-_MOST_ATTEMPTS]))
    more = [f"{counted(earlier, 'earlier attempt')}"] if earlier else []
    return more + [_attempts_in_words(each) for each in rows[-_MOST_ATTEMPTS:]]


def _attempts_in_words(row: Sequence[FailedAttempt]) -> str:
    first, last = row[0], row[-1]
    times = f" to {short_moment(last.at_utc_ns)}, {len(row):,} times" if len(row) > 1 else ""
    reason = f": {first.reason}" if first.reason else ""
    return f"{short_moment(first.at_utc_ns)}{times}, {_status_words(first.status)}{reason}"


_MOST_ATTEMPTS = 5


def sums_of(accounts: Accounts) -> tuple[str, str]:
    """Return a sign for the sums of a run's accounts, and what it means."""
    if accounts.imbalance:
        return SIGNS[Level.FAILED], accounts.imbalance
    if accounts.status in _SENDS_NOTHING and not accounts.requests.sent:
        return SIGNS[Level.EMPTY], "nothing was sent"
    return SIGNS[Level.OK], "the sums balance"


_SENDS_NOTHING = {"guarded", "planned", "shadow"}


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
