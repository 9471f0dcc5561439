"""A run's books on stdout: a table for people, or one JSON document."""

import json
import sys

from rich.console import Console
from rich.table import Table

from engine.errors import ExitStatus
from engine.push import PushResult
from engine.report.accounts import SCHEMA_VERSION, Accounts


def print_result(result: PushResult, *, as_json: bool) -> None:
    """Print the books on stdout, and on stderr what to do if the run did not finish."""
    if as_json:
        sys.stdout.write(json.dumps(result.accounts.document(), ensure_ascii=False) + "\n")
    else:
        print_accounts(result.accounts)
    sys.stdout.flush()
    if result.accounts.reason:
        sys.stderr.write(f"{result.accounts.status}: {result.accounts.reason}\n")
    if result.hint:
        sys.stderr.write(f"hint: {result.hint}\n")


def print_nothing(status: str) -> None:
    """Print the JSON document of a command that found no run to work on."""
    document = {
        "run": None,
        "status": status,
        "exit_status": int(ExitStatus.ACCEPTED),
        "reason": None,
        "schema_version": SCHEMA_VERSION,
    }
    sys.stdout.write(json.dumps(document) + "\n")


def print_accounts(accounts: Accounts) -> None:
    """Print the books as a table: what was read, and where every uid stands."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    rows, uids, batches, requests = (
        accounts.rows,
        accounts.uids,
        accounts.batches,
        accounts.requests,
    )
    console.print(
        f"run {accounts.run or '(dry run)'}: {accounts.status}, exit status {accounts.exit_status}"
    )
    console.print(
        f"{accounts.action} · cohort {accounts.cohort_id} ({accounts.cohort_name}) · "
        f"{accounts.target} · workspace {accounts.workspace} · partner {accounts.partner}"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("", "planned", "accepted", "rejected", "unconfirmed", "pending"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, standing in (("uids", uids), ("batches", batches)):
        table.add_row(
            name,
            f"{standing.planned:,}",
            f"{standing.accepted:,}",
            f"{standing.rejected:,}",
            f"{standing.unconfirmed:,}",
            f"{standing.pending:,}",
        )
    console.print(table)
    complete = "" if accounts.source_complete else " (the export was not read to its end)"
    console.print(
        f"rows      {rows.read:,} read = {rows.blank:,} blank + {rows.invalid:,} invalid + "
        f"{uids.planned:,} planned{complete}"
    )
    console.print(
        f"requests  {requests.sent:,} sent, {requests.accepted:,} accepted, "
        f"{requests.throttled:,} throttled, {requests.retried:,} retried, {requests.split:,} split"
    )
    console.print(
        f"payloads  {accounts.bytes_sent:,} bytes, {accounts.payload_fill:.2%} full · "
        f"ceiling {accounts.ceiling_use:.2%} used · {accounts.elapsed_seconds:,.1f} s"
    )
    spent = accounts.ceiling_spending
    lost = {
        "held by 429s": spent.held,
        "waiting for input": spent.input,
        "waiting for answers": spent.in_flight,
        "margin": spent.margin,
        "late": spent.late,
        "unrecorded": spent.unrecorded,
    }
    # Adding 0 makes a 0 of the -0.0 that rounding may leave.
    parts = [f"{round(count, 1) + 0:,.1f} {cause}" for cause, count in lost.items()]
    console.print(
        f"ceiling   {spent.allowed:,.1f} requests allowed = {spent.used:,} used + lost: "
        f"{', '.join(parts)}"
    )
    if accounts.ceiling_found is not None:
        console.print(
            f"          the API was found to take {accounts.ceiling_found:,} requests / "
            f"{accounts.ceiling.per_seconds:g} s, fewer than configured"
        )
