"""How a run or a cohort of a sync ended: one line, and below it what needs attention."""

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from engine.cli.signs import Sign, sign_of
from engine.cli.text import duration
from engine.errors import ExitStatus
from engine.model.quantity import counted
from engine.model.status import CohortStatus
from engine.report.accounts import Accounts
from engine.report.run_results import RunResult
from engine.report.sync_result import CohortResult

INDENT = "  "
_PLANNED = {"planned", "dry_run", "shadow"}
"""Statuses of runs that send nothing."""
_STOPPED = {
    "incomplete": "incomplete",
    "refused": "refused by the API",
    "source_failed": "the export cannot be read",
    "failed": "failed",
    "unbalanced": "the accounts do not balance",
    "abandoned": "a later run replaced it",
    "running": "under way",
    CohortStatus.UP_TO_DATE: "up to date",
    CohortStatus.MISSING: "no export",
    CohortStatus.NOT_BEGUN: "not begun",
}
_GUARD = re.compile(r"(^|; )[a-z]+: ")
"""The name of a guard before its sentence."""


def run_lines(result: RunResult) -> Iterator[str]:
    """Yield the verdict on a run, and what needs attention."""
    yield verdict(result.accounts, result.plan)
    yield from attention(result.accounts.reason, result.hint, result.accounts)


def verdict(accounts: Accounts, plan: Mapping[str, Any] | None = None) -> str:
    """Return the line that says how a run ended; `plan` is that of a run that sends nothing."""
    name, status, reason = accounts.cohort_name, accounts.status, accounts.reason
    exit_status = None if accounts.exit_status is None else ExitStatus(accounts.exit_status)
    sign = sign_of(exit_status).character
    if status == "guarded":
        return f"{sign} {name}: stopped, nothing sent: {_without_guard_names(reason)}"
    if exit_status not in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}:
        words = _STOPPED.get(status, status.replace("_", " "))
        return f"{sign} {name}: {words}: {reason}" if reason else f"{sign} {name}: {words}"
    if status in _PLANNED:
        return f"{sign} {name}: {planned_changes(accounts, plan)}"
    return f"{sign} {name}: {changes(accounts)} in {_elapsed(accounts)}"


def attention(reason: str | None, hint: str | None, accounts: Accounts | None) -> Iterator[str]:
    """Yield the lines below a verdict: what was done of a stopped run, why it is partial, a hint.

    `reason` is repeated only where the verdict does not contain it.
    """
    if accounts is not None and accounts.exit_status:
        if accounts.exit_status == ExitStatus.PARTIAL and reason:
            yield f"{INDENT}{reason}"
        elif accounts.requests.sent:
            yield f"{INDENT}{changes(accounts)} in {_elapsed(accounts)}"
    if hint:
        yield f"{INDENT}hint: {hint}"


def changes(accounts: Accounts) -> str:
    """Return the counts of what a run has done: `51 added, 100 removed, 1,949 unchanged`."""
    uids, mirror = accounts.uids, accounts.mirror
    if mirror is None:
        parts = [f"{uids.accepted:,} {'removed' if accounts.action == 'remove' else 'added'}"]
        known = 0
    else:
        done = (
            (mirror.add.accepted, "added"),
            (mirror.remove.accepted, "removed"),
            (mirror.resend.accepted, "sent again"),
        )
        parts = [f"{count:,} {word}" for count, word in done if count]
        if is_unchanged(accounts):
            parts = ["nothing to change"]
        if mirror.unchanged or not parts:
            parts.append(f"{mirror.unchanged:,} unchanged")
        known = mirror.known_rejects
    rest = (
        (uids.rejected - known, "rejected"),
        (known, "rejected as before"),
        (uids.unconfirmed, "unconfirmed"),
        (uids.pending, "not sent"),
    )
    parts += [f"{count:,} {word}" for count, word in rest if count]
    if accounts.rows.invalid:
        parts.append(counted(accounts.rows.invalid, "invalid row"))
    return ", ".join(parts)


def _elapsed(accounts: Accounts) -> str:
    return duration(max(0.1, accounts.elapsed_seconds))


def planned_changes(accounts: Accounts, plan: Mapping[str, Any] | None = None) -> str:
    """Return what a run would send: `51 to add, 100 to remove, 1,949 unchanged; 2 requests`."""
    uids, mirror = accounts.uids, accounts.mirror
    if mirror is None:
        parts = [f"{uids.planned:,} to {'remove' if accounts.action == 'remove' else 'add'}"]
    elif not uids.planned:
        parts = ["nothing to change", f"{mirror.unchanged:,} unchanged"]
    else:
        parts = [f"{mirror.add.planned:,} to add", f"{mirror.remove.planned:,} to remove"]
        if mirror.resend.planned:
            parts.append(f"{mirror.resend.planned:,} to send again")
        parts.append(f"{mirror.unchanged:,} unchanged")
    if accounts.rows.invalid:
        parts.append(counted(accounts.rows.invalid, "invalid row"))
    requests = plan["requests"] if plan else accounts.batches.planned
    if not uids.planned or not requests:
        return ", ".join(parts)
    return f"{', '.join(parts)}; {counted(requests, 'request')}"


def plan_line(accounts: Accounts, plan: Mapping[str, Any] | None) -> str:
    """Return the last line of a plan: `Plan: 51 to add, …; 2 requests, done in 1 s.`."""
    line = f"Plan: {planned_changes(accounts, plan)}"
    if not accounts.uids.planned or accounts.status == "shadow":
        return f"{line}."
    ceiling = accounts.ceiling
    if plan:
        seconds = max(plan["seconds_at_ceiling"], plan["settle_seconds"])
    elif ceiling.hours:  # How long that takes depends on the time of the day.
        return f"{line}."
    else:
        seconds = max(0, accounts.batches.planned - 1) * ceiling.per_seconds / ceiling.requests
    whole = max(1, ceil(seconds))
    return f"{line}, done in {duration(whole) if whole >= _MINUTE else f'{whole} s'}."


_MINUTE = 60


def is_unchanged(accounts: Accounts) -> bool:
    """Return whether a mirror found nothing to send."""
    return (
        accounts.mirror is not None
        and accounts.status in {"finished", "planned", "shadow"}
        and not accounts.requests.sent
        and accounts.uids.planned == accounts.uids.rejected
    )


def cohort_lines(result: CohortResult) -> Iterator[str]:
    """Yield the verdict on a cohort of a sync, and what needs attention."""
    accounts = result.run.accounts if result.run else None
    if result.run is not None and accounts is not None:
        yield verdict(accounts, result.run.plan)
    else:
        yield _verdict_without_run(result)
    hint, command = _lift(result)
    yield from attention(result.reason, hint, accounts)
    if command:
        yield f"{INDENT}{command}"


def _verdict_without_run(result: CohortResult) -> str:
    sign = sign_of(result.exit_status)
    if result.status is CohortStatus.NOT_BEGUN:
        sign = Sign.NOT_BEGUN
    words = _STOPPED.get(result.status, result.status.replace("_", " "))
    reason = result.reason or ""
    if result.exit_status is ExitStatus.GUARDED:
        words, reason = "stopped, nothing sent", _without_guard_names(reason)
    elif words == "failed" and reason:
        return f"{sign.character} {result.cohort_name}: {reason}"
    return f"{sign.character} {result.cohort_name}: {words}{': ' if reason else ''}{reason}"


def _without_guard_names(reason: str | None) -> str:
    """Return why guards block, without their names before the sentences, which say the same."""
    return _GUARD.sub(r"\1", reason or "by a guard")


def _lift(result: CohortResult) -> tuple[str | None, str | None]:
    """Return a hint, and the command at its end that lifts the guards, for a line of its own."""
    before, colon, command = (result.hint or "").partition(_LIFTED_BY)
    if not colon:
        return result.hint, None
    return f"{before}:", f"{_LIFTED_BY.removeprefix(': ')}{command}"


_LIFTED_BY = ": cohortsync sync "
