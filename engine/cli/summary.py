"""Prints how a run ended on stdout, as lines or one JSON document, and its end on stderr.

The verdict comes first, then what needs attention, then the accounts: these only if something is
off, or with `--verbose`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from engine.cli.messages import level_of, log, print_columns, write_message
from engine.cli.signs import sign_of
from engine.cli.streams import print_json, print_lines, printing
from engine.cli.text import table_lines
from engine.cli.verbosity import Verbosity, verbosity
from engine.cli.verdict import attention, is_unchanged, plan_line, run_lines, verdict
from engine.errors import ExitStatus, IncompleteError
from engine.model.quantity import counted
from engine.report.accounts import Accounts, CeilingSpending, Standing
from engine.report.files import files_lines
from engine.report.run_results import RunResult


def print_result(result: RunResult, *, as_json: bool) -> None:
    """Print a run's result on stdout, and how it ended on stderr.

    Without a terminal, the end is one record: status, reason, hint and counts.
    """
    try:
        with printing():
            if as_json:
                print_json(result.to_dict())
            else:
                _print_lines(result, verbosity())
    except IncompleteError as error:  # The end of the run is written anyway.
        write_message(error.message, label="error", level="error", event="error")
    write_end(result, is_shown=sys.stdout.isatty() and not as_json)


def _print_lines(result: RunResult, shown: Verbosity) -> None:
    if result.exit_status is ExitStatus.ACCEPTED and shown is Verbosity.QUIET:
        return
    width = print_columns(sys.stdout)
    if result.accounts.status not in _SENDS_NOTHING:
        print_lines(run_lines(result), indent=4)
        print_lines(_account_lines(result, shown, width))
        return
    if not is_unchanged(result.accounts) or shown is Verbosity.VERBOSE:
        print_lines(_account_lines(result, shown, width))
    print_lines(_plan_end(result), indent=6)


_SENDS_NOTHING = {"planned", "dry_run"}
"""The statuses of a plan; its last line says what it would send."""


def _account_lines(result: RunResult, shown: Verbosity, width: int) -> Iterator[str]:
    """Yield the accounts of a result: all of them if something is off, or if verbose."""
    accounts = result.accounts
    if shown is Verbosity.VERBOSE or result.exit_status is not ExitStatus.ACCEPTED:
        yield from accounting_lines(accounts, width)
    elif accounts.run:
        yield _run_line(accounts)
    yield from files_lines(result.files)
    if result.plan:
        yield from _plan_lines(result.plan, shown)
    if result.hint and accounts.status == "planned":
        yield f"apply     {result.hint}"


def _plan_end(result: RunResult) -> Iterator[str]:
    """Yield the last lines of a plan: what is wrong with its export, and what it sends."""
    if result.exit_status is not ExitStatus.ACCEPTED:
        yield f"{sign_of(result.exit_status).character} {result.accounts.reason}"
    yield plan_line(result.accounts, result.plan)


def _run_line(accounts: Accounts) -> str:
    """Return the line that names a run that ended well, and what it used."""
    parts = [str(accounts.run), f"cohort {accounts.cohort_id}", accounts.target]
    if accounts.requests.sent:
        parts.append(counted(accounts.requests.sent, "request"))
        parts.append(f"ceiling {accounts.ceiling_use:.1%} used")
    return f"run       {' · '.join(parts)}"


def write_end(result: RunResult, *, is_shown: bool = False) -> None:
    """Write how a run ended; `is_shown`: this terminal already shows its result."""
    accounts = result.accounts
    if is_unchanged(accounts) and not is_shown:
        write_message(_UNCHANGED)
    if sys.stderr.isatty():
        if accounts.reason and not is_shown:
            write_message(accounts.reason, label=accounts.status)
        if result.hint and not is_shown:
            write_message(result.hint, label="hint")
        return
    log(level_of(result.exit_status), "ended", **end_fields(result))


def end_fields(result: RunResult) -> dict[str, object]:
    """Return the fields of the record of a run's end: status, reason, hint and counts."""
    accounts = result.accounts
    hint = {"hint": result.hint} if result.hint else {}
    return {
        "run": accounts.run,
        "status": accounts.status,
        "exit_status": int(result.exit_status),
        "reason": accounts.reason,
        **hint,
        "action": accounts.action,
        "cohort_id": accounts.cohort_id,
        **{f"rows_{name}": count for name, count in asdict(accounts.rows).items()},
        **asdict(accounts.uids),
        "requests": accounts.requests.sent,
        "throttled": accounts.requests.throttled,
        "elapsed_seconds": accounts.elapsed_seconds,
    }


def print_accounts(accounts: Accounts, files: Sequence[str] = ()) -> None:
    """Print the verdict on a run, its accounts, and the lines `files`."""
    below = attention(accounts.reason, None, accounts)
    print_lines(chain([verdict(accounts)], below), indent=4)
    lines = accounting_lines(accounts, print_columns(sys.stdout))
    print_lines(chain(lines, files))


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print the counts of a plan, and the results of the guards."""
    print_lines(_plan_lines(plan, Verbosity.VERBOSE))


def print_lifts(lifts: Sequence[Mapping[str, Any]]) -> None:
    """Print the lifted guards, with person and reason."""
    print_lines(_lift_lines(lifts))


def _lift_lines(lifts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for lifted in lifts:
        bound = "" if lifted["bound"] is None else f"={lifted['bound']:,}"
        yield (
            f"lifted    {lifted['guard']}{bound} by {lifted['user']} on {lifted['host']}: "
            f"{lifted['reason']}"
        )


def _plan_lines(plan: Mapping[str, Any], shown: Verbosity) -> Iterator[str]:
    """Yield what a plan would send; the guards that pass are only counted, unless verbose."""
    if shown is Verbosity.VERBOSE:
        yield (
            f"plan      about {counted(plan['requests'], 'request')}, "
            f"{counted(plan['bytes'], 'byte')} · "
            f"{plan['seconds_at_ceiling']:,.1f} s at the ceiling, done at {plan['done_at']}"
        )
    if plan["held"]:
        yield (
            f"          {plan['held']:,} wait up to {plan['settle_seconds']:,.0f} s for earlier "
            "changes to settle"
        )
    if plan["resend"]:
        yield (
            f"resend    {counted(plan['resend_requests'], 'request')} of these to add "
            f"{counted(plan['resend'], 'member')} once more; at that rate, all have been after "
            f"{counted(plan['resend_nights'], 'run')}"
        )
    for operation, uids in plan["sample"].items():
        if uids:
            more = ", …" if plan[operation] > len(uids) else ""
            yield f"{operation:<9} {', '.join(uids)}{more}"
    yield from _lift_lines(plan["allowed"])
    yield from _guard_lines(plan["guards"], shown)


def _guard_lines(guards: Iterable[Mapping[str, Any]], shown: Verbosity) -> Iterator[str]:
    passed = 0
    for guard in guards:
        if guard["verdict"] == "passes" and shown is not Verbosity.VERBOSE:
            passed += 1
            continue
        yield f"guard     {guard['guard']:<10} {guard['verdict']:<7} {guard['sentence']}"
        if guard["override"]:
            yield f"          {'':<10} lifted by {guard['override']}"
    if passed:
        yield f"guards    {passed} pass"


def accounting_lines(accounts: Accounts, width: int) -> Iterator[str]:
    """Yield the accounts: the rows that were read, the standing of all uids, and the requests."""
    rows, uids, requests = accounts.rows, accounts.uids, accounts.requests
    is_dry = accounts.run is None
    standing = "dry run" if is_dry else f"{accounts.run}: {accounts.status}"
    known = "" if accounts.exit_status is None else f", exit status {accounts.exit_status}"
    yield f"run       {standing}{known}"
    yield (
        f"cohort    {accounts.cohort_id} ({accounts.cohort_name}) · {accounts.action} · "
        f"{accounts.target} · workspace {accounts.workspace} · partner {accounts.partner}"
    )
    mirror = accounts.mirror
    if not is_unchanged(accounts):
        yield from _standing_lines(accounts, width)
    complete = "" if accounts.source_complete else " (the export was not read to its end)"
    mirrored, planned = "", f"{uids.planned:,} planned"
    excluded = f"{rows.excluded:,} excluded + " if rows.excluded else ""
    if mirror:
        repeated = "superseded" if mirror.lists_changes else "duplicate"
        mirrored = f"{mirror.duplicate:,} {repeated} + {mirror.unchanged:,} unchanged + "
        planned = f"{mirror.add.planned:,} to add"
        if mirror.lists_changes:
            planned += f" + {mirror.remove.planned:,} to remove"
        if mirror.undecided:
            planned += f" + {mirror.undecided:,} not compared"
    yield (
        f"rows      {rows.read:,} read = {rows.blank:,} blank + {rows.invalid:,} invalid + "
        f"{excluded}{mirrored}{planned}{complete}"
    )
    for note in mirror.notes if mirror else ():
        yield f"note      {note}"
    if mirror and mirror.known_rejects:
        yield f"rejects   {mirror.known_rejects:,} of the rejected were known from earlier runs"
    if is_dry or is_unchanged(accounts) or accounts.status in {"planned", "guarded", "shadow"}:
        return
    yield (
        f"requests  {requests.sent:,} sent, {requests.accepted:,} accepted, "
        f"{requests.throttled:,} throttled, {requests.retried:,} retried, {requests.split:,} split"
    )
    spent = accounts.ceiling_spending
    yield (
        f"payloads  {counted(accounts.bytes_sent, 'byte')}, {accounts.payload_fill:.2%} full · "
        f"ceiling {_share(requests.accepted, spent.available):.2%} accepted, "
        f"{accounts.ceiling_use:.2%} attempted · {accounts.elapsed_seconds:,.1f} s"
    )
    others = f" + {spent.other_runs:,.0f} by other runs" if spent.other_runs else ""
    if spent.other_processes:
        others += f" + {spent.other_processes:,.0f} by other processes"
    yield (
        f"ceiling   {spent.allowed:,.1f} requests allowed = {spent.used:,} used{others} + "
        f"{_losses(spent)}"
    )
    if accounts.ceiling_found is not None:
        yield (
            f"          the API was found to take {counted(accounts.ceiling_found, 'request')} / "
            f"{accounts.ceiling.per_seconds:g} s, fewer than configured"
        )


def _standing_lines(accounts: Accounts, width: int) -> Iterator[str]:
    counts = ("planned", "accepted", "rejected", "unconfirmed", "pending")
    mirror = accounts.mirror
    standings: tuple[tuple[str, Standing], ...] = (("uids", accounts.uids),)
    if mirror:
        resent = (("resends", mirror.resend),) if mirror.resend.planned else ()
        standings = (("adds", mirror.add), ("removes", mirror.remove), *resent)
    return table_lines(
        ("", *counts),
        [
            (name, *(f"{getattr(parts, count):,}" for count in counts))
            for name, parts in (*standings, ("batches", accounts.batches))
        ],
        numbers=counts,
        width=width,
    )


_UNCHANGED = "nothing to change: the API has accepted all that the export says"


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _losses(spent: CeilingSpending) -> str:
    """Return the causes of unused requests, without those too small to show."""
    lost = {
        "held by 429s": spent.held,
        "waiting for input": spent.input,
        "waiting for answers": spent.in_flight,
        "margin": spent.margin,
        "unrecorded": spent.unrecorded,
        "late": spent.late,
    }
    if spent.late < 0:  # More was caught up than was late, so the other losses are reduced.
        caught_up = lost.pop("late")
        largest = max(lost, key=lost.__getitem__)
        lost[largest] += caught_up
    parts = [f"{count:,.1f} {cause}" for cause, count in lost.items() if count >= _SHOWN]
    return f"lost: {', '.join(parts)}" if parts else "nothing lost"


_SHOWN = 0.05
"""The smallest number of requests for which a cause is shown, with one decimal."""
