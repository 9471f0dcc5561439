"""`cohortsync runs`, `show` and `rejects`: print the content of the ledger."""

import csv
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.messages import columns_of
from engine.cli.options import JsonOption, StateOptions, flat
from engine.cli.streams import print_json, printing, table_on_stdout
from engine.cli.text import csv_cell, duration
from engine.errors import UsageError
from engine.model.foreign_text import printable
from engine.model.status import RunStatus

if TYPE_CHECKING:
    from datetime import datetime

    from engine import Accounts, Engine, RunDetails

RunArgument = Annotated[
    str,
    typer.Argument(help="A run's name, the beginning of one name only, or latest."),
]
CsvOption = Annotated[
    bool,
    typer.Option("--csv", help="Print csv, made safe for spreadsheets: --json has the exact text."),
]


@flat
def runs(
    *,
    cohort: Annotated[
        str | None, typer.Option("--cohort", metavar="ID", help="Only runs of this cohort.")
    ] = None,
    status: Annotated[
        list[RunStatus] | None,
        typer.Option("--status", help="Only runs with this status; repeatable."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only runs begun since then: 24h, 7d, or 2026-11-27T06:00 in local time.",
        ),
    ] = None,
    where: StateOptions,
    as_json: JsonOption = False,
) -> None:
    """List the runs in the state folder, the latest first.

    A run's name is the time of its start, in UTC.
    """
    begun = None if since is None else _time_of(since)
    found = where.call(lambda engine: engine.runs(cohort_id=cohort, status=status, since=begun))
    with printing():
        if as_json:
            print_json([accounts.to_dict() for accounts in found])
        else:
            _print_runs(found)


def _time_of(text: str) -> "datetime":
    """Return the time that a value of `--since` means; raises `UsageError`."""
    from datetime import UTC, datetime, timedelta

    if found := re.fullmatch(r"([0-9]{1,6})([mhdw])", text):
        units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
        return datetime.now(UTC) - timedelta(**{units[found[2]]: int(found[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        hint = "--since 24h, --since 7d, or --since 2026-11-27"
        raise UsageError(f"--since {text} is no time", hint=hint) from None


_RUN_COLUMNS = ("run", "status", "exit", "took", "added", "removed")


def _print_runs(found: "Sequence[Accounts]") -> None:
    """Print a table; what all runs have in common is one line above it.

    On a terminal the cohorts of one workspace are cut so that a run fits into a line; those of
    several so that it fits into two.
    """
    from engine.cli.text import shortened

    width = columns_of(sys.stdout)
    workspaces = {accounts.workspace for accounts in found}
    has_one_target = len({accounts.target for accounts in found}) == 1
    columns: dict[str, list[str]] = {name: [] for name in _RUN_COLUMNS}
    for accounts in found:
        for name, cell in zip(_RUN_COLUMNS, _run_cells(accounts), strict=True):
            columns[name].append(cell)
    room = None
    if has_one_target:
        sys.stdout.write(f"target {printable(found[0].target)}\n")
    if has_one_target and width is not None:
        used = sum(max(map(len, (name, *cells))) + 2 for name, cells in columns.items())
        room = max(len("cohort"), width - used)
    if len(workspaces) > 1:
        longest = width and _LONGEST_WORKSPACE
        columns["workspace"] = [shortened(printable(each.workspace), longest) for each in found]
        room = width and max(len("cohort"), width - _LONGEST_WORKSPACE - _INDENT - 2)
    columns["cohort"] = [shortened(printable(each.cohort_id), room) for each in found]
    if not has_one_target:
        columns["target"] = [accounts.target for accounts in found]
    rows = list(zip(*columns.values(), strict=True))
    _print_table(list(columns), rows, numbers=("exit", "took", "added", "removed"))


_LONGEST_WORKSPACE, _INDENT = 24, 4
"""Columns of a workspace on a terminal, and before the second line of a run."""


def _run_cells(accounts: "Accounts") -> tuple[str, ...]:
    mirror = accounts.mirror
    accepted = f"{accounts.uids.accepted:,}"
    if mirror is not None:
        changed = (f"{mirror.add.accepted:,}", f"{mirror.remove.accepted:,}")
    else:
        changed = (accepted, "") if accounts.action == "add" else ("", accepted)
    exit_status = "" if accounts.exit_status is None else str(accounts.exit_status)
    took = duration(accounts.elapsed_seconds)
    return (str(accounts.run), accounts.status, exit_status, took, *changed)


@flat
def show(
    *,
    run: RunArgument,
    batches: Annotated[
        bool,
        typer.Option("--batches", help="List batches and attempts, as --json and --csv do."),
    ] = False,
    where: StateOptions,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show a run's accounts and files, and with --batches its batches and their attempts."""
    from engine.report.history import ATTEMPT_COLUMNS

    _refuse_both(as_json=as_json, as_csv=as_csv)

    has_attempts = batches or as_json or as_csv
    details = where.call(lambda engine: engine.show(run, attempts=has_attempts))
    with printing():
        if as_csv:
            write = _csv_writer(ATTEMPT_COLUMNS)
            for record in details.attempts:
                write(record)
        elif as_json:
            print_json(details.to_dict())
        else:
            _print_details(details)


def _print_details(details: "RunDetails") -> None:
    from engine.cli.summary import print_accounts, print_lifts, print_plan
    from engine.report.files import FILE_COLUMNS, file_rows, files_line

    files = details.files
    print_accounts(details.accounts, [files_line(files)] if files else [])
    print_lifts(details.lifts)
    if details.plan is not None:
        print_plan(details.plan)
    if files:
        _print_table(FILE_COLUMNS, file_rows(files), ("bytes", "uids"))
    if not details.attempts:
        return
    rows = ({**record, "sent_at": _shortened(record["sent_at"])} for record in details.attempts)
    _print_table(_COLUMNS, [[row[c] for c in _COLUMNS] for row in rows], _NUMBERS)


_NUMBERS = ("batch", "parent", "uid_count", "attempt", "http_status")
_COLUMNS = (
    *("batch", "parent", "uid_count", "state"),
    *("attempt", "sent_at", "outcome", "http_status", "reason"),
)


def _shortened(timestamp: str | None) -> str | None:
    """Return an ISO timestamp in UTC without letters and offset."""
    return timestamp and timestamp.partition("+")[0].replace("T", " ")


@flat
def rejects(
    *,
    run: RunArgument,
    where: StateOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print ndjson, as is done without it.")
    ] = False,
    as_csv: CsvOption = False,
) -> None:
    """List every uid rejected and every row that planned none, as ndjson or csv.

    Each has its file, record number (from 1, a header not counted) and reason; a rejected uid also
    the API's request id.
    """
    from engine.report.history import REJECT_COLUMNS

    _refuse_both(as_json=as_json, as_csv=as_csv)

    async def print_all(engine: "Engine") -> None:
        async with aclosing(engine.rejects(run)) as found:
            # Errors are raised before the heading is printed.
            first = await anext(found, None)
            write = _csv_writer(REJECT_COLUMNS) if as_csv else print_json
            if first is not None:
                write(first.to_dict())
            async for reject in found:
                write(reject.to_dict())

    with printing():
        where.call(print_all)


def _refuse_both(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")


def _csv_writer(columns: Sequence[str]) -> Callable[[Mapping[str, Any]], None]:
    """Print the heading of a csv; return a function that prints a record."""
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    return lambda record: writer.writerow({name: csv_cell(value) for name, value in record.items()})


def _print_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str]
) -> None:
    for line in table_on_stdout(headings, rows, numbers):
        sys.stdout.write(line + "\n")
