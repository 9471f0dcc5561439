"""A run's books on stdout: a table for people, or one JSON document."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.cli.streams import print_json, printing
from engine.cli.text import printable, table_lines
from engine.errors import ExitStatus, IncompleteError
from engine.report.accounts import SCHEMA_VERSION, Accounts
from engine.report.figures import CeilingSpending, Standing
from engine.report.files import files_document, files_line
from engine.report.result import RunResult
from engine.source.files import SourceFile


def print_result(
    result: RunResult, *, as_json: bool, plan: Mapping[str, Any] | None = None
) -> None:
    """Print the books on stdout, and a plan with them, and on stderr what is left to do."""
    try:
        with printing():
            if as_json:
                document = result.accounts.document() | files_document(result.files)
                if plan is not None:
                    document["plan"] = plan or None
                print_json(document)
            else:
                print_accounts(result.accounts, result.files)
                if plan:
                    print_plan(plan)
    except IncompleteError as error:  # How the run ended stands all the same.
        sys.stderr.write(f"error: {error.message}\n")
    print_end(result)


def print_end(result: RunResult) -> None:
    """Print on stderr why a run is not finished, and what is left to do."""
    if result.accounts.reason:
        sys.stderr.write(f"{result.accounts.status}: {printable(result.accounts.reason)}\n")
    if result.hint:
        sys.stderr.write(f"hint: {printable(result.hint)}\n")


def print_nothing(status: str) -> None:
    """Print the JSON document of a command that found no run to work on."""
    document = {
        "run": None,
        "status": status,
        "exit_status": int(ExitStatus.ACCEPTED),
        "reason": None,
        "schema_version": SCHEMA_VERSION,
    }
    with printing():
        print_json(document)


def print_accounts(accounts: Accounts, files: Sequence[SourceFile] = ()) -> None:
    """Print the books as a table: what was read, and where every uid stands."""
    for line in _lines(accounts, files):
        sys.stdout.write(printable(line) + "\n")


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what a plan comes to, and what the guards say of it."""
    for line in _plan_lines(plan):
        sys.stdout.write(printable(line) + "\n")


def print_lifts(lifts: Sequence[Mapping[str, Any]]) -> None:
    """Print which guards were lifted, by whom and why."""
    for line in _lift_lines(lifts):
        sys.stdout.write(printable(line) + "\n")


def _lift_lines(lifts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for lifted in lifts:
        bound = "" if lifted["bound"] is None else f"={lifted['bound']:,}"
        yield (
            f"lifted    {lifted['guard']}{bound} by {lifted['user']} on {lifted['host']}: "
            f"{lifted['reason']}"
        )


def _plan_lines(plan: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"plan      about {plan['requests']:,} requests, {plan['bytes']:,} bytes · "
        f"{plan['seconds_at_ceiling']:,.1f} s at the ceiling, done at {plan['done_at']}"
    )
    if plan["held"]:
        yield (
            f"          {plan['held']:,} wait up to {plan['settle_seconds']:,.0f} s for earlier "
            "changes to settle"
        )
    if plan["resend"]:
        yield (
            f"resend    {plan['resend_requests']:,} of the requests add {plan['resend']:,} members "
            f"once more; at that rate, all have been after {plan['resend_nights']:,} nights"
        )
    for leg, uids in plan["sample"].items():
        if uids:
            more = ", …" if plan[leg] > len(uids) else ""
            yield f"{leg:<9} {', '.join(uids)}{more}"
    yield from _lift_lines(plan["allowed"])
    for told in plan["guards"]:
        yield f"guard     {told['guard']:<10} {told['verdict']:<7} {told['sentence']}"
        if told["override"]:
            yield f"          {'':<10} lifted by {told['override']}"


def _lines(accounts: Accounts, files: Sequence[SourceFile]) -> Iterator[str]:
    rows, uids, requests = accounts.rows, accounts.uids, accounts.requests
    is_dry = accounts.run is None
    standing = "dry run" if is_dry else f"run {accounts.run}: {accounts.status}"
    known = "" if accounts.exit_status is None else f", exit status {accounts.exit_status}"
    yield standing + known
    yield (
        f"{accounts.action} · cohort {accounts.cohort_id} ({accounts.cohort_name}) · "
        f"{accounts.target} · workspace {accounts.workspace} · partner {accounts.partner}"
    )
    counts = ("planned", "accepted", "rejected", "unconfirmed", "pending")
    mirror = accounts.mirror
    legs: tuple[tuple[str, Standing], ...] = (("uids", uids),)
    if mirror:
        resent = (("resends", mirror.resend),) if mirror.resend.planned else ()
        legs = (("adds", mirror.add), ("removes", mirror.remove), *resent)
    standings = (*legs, ("batches", accounts.batches))
    yield from table_lines(
        ("", *counts),
        [(name, *(f"{getattr(parts, count):,}" for count in counts)) for name, parts in standings],
        numbers=counts,
    )
    complete = "" if accounts.source_complete else " (the export was not read to its end)"
    mirrored, planned = "", f"{uids.planned:,} planned"
    if mirror:
        mirrored = f"{mirror.duplicate:,} duplicate + {mirror.unchanged:,} unchanged + "
        planned = f"{mirror.add.planned:,} to add"
        if mirror.undecided:
            planned += f" + {mirror.undecided:,} not compared"
    yield (
        f"rows      {rows.read:,} read = {rows.blank:,} blank + {rows.invalid:,} invalid + "
        f"{mirrored}{planned}{complete}"
    )
    if files:
        yield files_line(files)
    for note in mirror.notes if mirror else ():
        yield f"note      {note}"
    if mirror and mirror.known_rejects:
        yield f"rejects   {mirror.known_rejects:,} of the rejected were known from earlier nights"
    if is_dry or accounts.status in {"planned", "guarded", "shadow"}:
        return
    yield (
        f"requests  {requests.sent:,} sent, {requests.accepted:,} accepted, "
        f"{requests.throttled:,} throttled, {requests.retried:,} retried, {requests.split:,} split"
    )
    yield (
        f"payloads  {accounts.bytes_sent:,} bytes, {accounts.payload_fill:.2%} full · "
        f"ceiling {accounts.ceiling_use:.2%} used · {accounts.elapsed_seconds:,.1f} s"
    )
    spent = accounts.ceiling_spending
    yield (
        f"ceiling   {spent.allowed:,.1f} requests allowed = {spent.used:,} used + {_losses(spent)}"
    )
    if accounts.ceiling_found is not None:
        yield (
            f"          the API was found to take {accounts.ceiling_found:,} requests / "
            f"{accounts.ceiling.per_seconds:g} s, fewer than configured"
        )


def _losses(spent: CeilingSpending) -> str:
    """Say where requests went unused; causes too small to show are left out."""
    lost = {
        "held by 429s": spent.held,
        "waiting for input": spent.input,
        "waiting for answers": spent.in_flight,
        "margin": spent.margin,
        "unrecorded": spent.unrecorded,
        "late": spent.late,
    }
    if spent.late < 0:  # More was caught up than was late: that much of the other losses, too.
        caught_up = lost.pop("late")
        largest = max(lost, key=lost.__getitem__)
        lost[largest] += caught_up
    parts = [f"{count:,.1f} {cause}" for cause, count in lost.items() if count >= _SHOWN]
    return f"lost: {', '.join(parts)}" if parts else "nothing lost"


_SHOWN = 0.05
"""Requests from which on a cause is shown, with one decimal."""
