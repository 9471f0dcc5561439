"""Puts the ends of each cohort's syncs and runs together: the last, and what failed before it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.errors import ExitStatus
from engine.model.status import RunStatus
from engine.report.period import CohortPeriod, FailedAttempt

_NO_FAILURES = {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
_NEVER_LAST = {RunStatus.ABANDONED}
"""The statuses of runs that say nothing about the cohort's state, but may have changed it."""


def put_together(ends: Iterable[CohortPeriod]) -> list[CohortPeriod]:
    """Return each cohort as the last of its ends left it, with what all of them have changed.

    A run that has not ended is later than all that has. A push and a mirror of a cohort, or two
    pushes with different actions, are shown side by side.
    """
    in_order = sorted(ends, key=lambda each: (_is_running(each), each.last_moment_utc_ns))
    groups: list[list[CohortPeriod]] = []
    # Of each cohort, the ends that are later, the latest first, each with its group.
    placed: dict[tuple[str, str], list[tuple[CohortPeriod, list[CohortPeriod]]]] = {}
    for end in reversed(in_order):
        later = placed.setdefault((end.partner, end.cohort_id), [])
        joined = next((group for each, group in reversed(later) if _replaces(each, end)), None)
        if joined is None:
            groups.append(joined := [])
        joined.append(end)
        later.append((end, joined))
    wholes = (_whole(group[::-1]) for group in reversed(groups))
    return [each for each in wholes if each is not None]


def _whole(ends: Sequence[CohortPeriod]) -> CohortPeriod | None:
    """Return a cohort by its ends, the earliest first; None if none of them is shown."""
    shown = [each for each in ends if each.status not in _NEVER_LAST]
    if not shown:
        return None
    last = shown[-1]
    runs = {run.run: run for each in ends for run in each.runs}
    found = replace(
        last,
        runs=sorted(runs.values(), key=lambda each: each.started_at),
        failed_attempts=[_attempt(each) for each in shown[:-1] if _has_failed(each)],
    )
    if not last.runs:
        with_run = next((each for each in reversed(shown) if each.runs), None)
        if with_run is not None:
            found = replace(
                found,
                cohort_name=with_run.cohort_name,
                mode=with_run.mode,
                files=with_run.files,
                guards=with_run.guards,
                members=with_run.members if last.members is None else last.members,
            )
    return found


def _is_running(end: CohortPeriod) -> bool:
    return end.status == RunStatus.RUNNING


def _has_failed(end: CohortPeriod) -> bool:
    return end.exit_status not in _NO_FAILURES and not _is_running(end)


def _attempt(end: CohortPeriod) -> FailedAttempt:
    return FailedAttempt(end.last_moment_utc_ns, end.status, end.exit_status, end.reason, end.run)


def _replaces(later: CohortPeriod, earlier: CohortPeriod) -> bool:
    """Return whether a later end of a cohort says how it is, in place of an earlier one."""
    return None in {later.mode, earlier.mode} or later.mode == earlier.mode
