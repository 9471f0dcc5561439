"""`cohortsync runs`, `show` and `rejects`: print the content of the ledger."""

import csv
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.messages import columns_of
from engine.cli.options import JsonOption, StateOptions, flat
from engine.cli.streams import print_json, printing
from engine.cli.text import csv_cell, table_lines
from engine.errors import UsageError
from engine.model.foreign_text import printable

if TYPE_CHECKING:
    from engine import Engine, RunDetails

RunArgument = Annotated[str, typer.Argument(help="A run's name, as `cohortsync runs` lists it.")]
CsvOption = Annotated[
    bool,
    typer.Option("--csv", help="Print csv, made safe for spreadsheets: --json has the exact text."),
]


@flat
def runs(*, where: StateOptions, as_json: JsonOption = False) -> None:
    """List all runs in the state folder, the latest first."""
    found = where.call(lambda engine: engine.runs())
    if as_json:
        documents = [accounts.to_dict() for accounts in found]
        with printing():
            print_json(documents)
        return
    rows: list[tuple[object, ...]] = [
        (
            a.run,
            a.status,
            a.exit_status,
            a.action,
            a.cohort_id,
            f"{a.uids.planned:,}",
            f"{a.uids.accepted:,}",
            a.target,
        )
        for a in found
    ]
    headings: tuple[str, ...]
    headings = ("run", "status", "exit", "action", "cohort", "planned", "accepted", "target")
    with printing():
        if sys.stdout.isatty() and len({accounts.target for accounts in found}) == 1:
            # One line instead of a column, so that a run fits into 80 columns.
            sys.stdout.write(f"target {printable(found[0].target)}\n")
            headings, rows = headings[:-1], [row[:-1] for row in rows]
        _print_table(headings, rows, numbers=("exit", "planned", "accepted"))


@flat
def show(
    *,
    run: RunArgument,
    where: StateOptions,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show a run's accounts, its batches and their attempts."""
    from engine.report.history import ATTEMPT_COLUMNS

    _refuse_both(as_json=as_json, as_csv=as_csv)

    details = where.call(lambda engine: engine.show(run))
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
    for line in table_lines(headings, rows, numbers, columns_of(sys.stdout)):
        sys.stdout.write(line + "\n")
