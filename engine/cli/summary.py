"""A run's books on stdout: a table for people, or one JSON document."""

import json
import sys
from collections.abc import Iterator

from engine.cli.stdout import printing
from engine.cli.text import printable, table_lines
from engine.errors import ExitStatus, IncompleteError
from engine.report.accounts import SCHEMA_VERSION, Accounts
from engine.report.figures import CeilingSpending
from engine.report.result import RunResult


def print_result(result: RunResult, *, as_json: bool) -> None:
    """Print the books on stdout, and on stderr what to do if the run did not finish."""
    try:
        with printing():
            if as_json:
                document = result.accounts.document()
                sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
            else:
                print_accounts(result.accounts)
    except IncompleteError as error:  # How the run ended stands all the same.
        sys.stderr.write(f"error: {error.message}\n")
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
        sys.stdout.write(json.dumps(document) + "\n")


def print_accounts(accounts: Accounts) -> None:
    """Print the books as a table: what was read, and where every uid stands."""
    for line in _lines(accounts):
        sys.stdout.write(printable(line) + "\n")


def _lines(accounts: Accounts) -> Iterator[str]:
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
    yield from table_lines(
        ("", *counts),
        [
            (name, *(f"{getattr(parts, count):,}" for count in counts))
            for name, parts in (("uids", uids), ("batches", accounts.batches))
        ],
        numbers=counts,
    )
    complete = "" if accounts.source_complete else " (the export was not read to its end)"
    yield (
        f"rows      {rows.read:,} read = {rows.blank:,} blank + {rows.invalid:,} invalid + "
        f"{uids.planned:,} planned{complete}"
    )
    if is_dry:
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
