"""`cohortsync runs`, `show` and `rejects`: what the ledger knows."""

import csv
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.messages import columns_of
from engine.cli.options import ConfigOption, JsonOption, StateOption
from engine.cli.streams import print_json, printing
from engine.cli.text import csv_cell, printable, table_lines
from engine.errors import UsageError

RunArgument = Annotated[str, typer.Argument(help="A run's name, as `cohortsync runs` lists it.")]
CsvOption = Annotated[
    bool,
    typer.Option("--csv", help="Print csv, made safe for spreadsheets: --json has the exact text."),
]


def runs(
    config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """List all runs in the state folder, the latest first."""
    from engine.report.history import all_runs

    found = all_runs(_state(config, state))
    if as_json:
        documents = [accounts.document() for accounts in found]
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
            # One line instead of a column, so that a run fits on a line of 80 columns.
            sys.stdout.write(f"target {printable(found[0].target)}\n")
            headings, rows = headings[:-1], [row[:-1] for row in rows]
        _print_table(headings, rows, numbers=("exit", "planned", "accepted"))


def show(
    run: RunArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show a run's books, its batches and their attempts."""
    from engine.cli.summary import print_accounts, print_lifts, print_plan
    from engine.ledger.sqlite.files import files_of
    from engine.ledger.sqlite.runs import lifts_of
    from engine.report.files import FILE_COLUMNS, file_rows, files_document
    from engine.report.history import (
        ATTEMPT_COLUMNS,
        attempts_of,
        books_of,
        find_ledger,
        plan_shown,
        reading,
    )

    _refuse_both(as_json=as_json, as_csv=as_csv)
    path = find_ledger(_state(config, state), run)
    with reading(path) as ledger, printing():
        accounts = books_of(path, ledger, run, is_recounted=True)
        files = files_of(ledger, run)
        attempts = attempts_of(ledger, run)
        if as_csv:
            _print_csv(ATTEMPT_COLUMNS, attempts)
        elif as_json:
            document = accounts.document() | files_document(files, most_listed=None)
            if accounts.mirror is not None:
                document["plan"] = plan_shown(ledger, run)
            else:
                document["allowed"] = lifts_of(ledger, run)
            document["attempts"] = list(attempts)
            print_json(document)
        else:
            print_accounts(accounts, files)
            print_lifts(lifts_of(ledger, run))
            if (plan := plan_shown(ledger, run)) is not None:
                print_plan(plan)
            if files:
                _print_table(FILE_COLUMNS, file_rows(files), ("bytes", "uids"))
            rows = ({**record, "sent_at": _shortened(record["sent_at"])} for record in attempts)
            _print_table(_COLUMNS, [[row[c] for c in _COLUMNS] for row in rows], _NUMBERS)


_NUMBERS = ("batch", "parent", "uid_count", "attempt", "http_status")
_COLUMNS = (
    *("batch", "parent", "uid_count", "state"),
    *("attempt", "sent_at", "outcome", "http_status", "reason"),
)


def _shortened(timestamp: str | None) -> str | None:
    """Return an ISO timestamp, which is UTC, without letters and offset."""
    return timestamp and timestamp.partition("+")[0].replace("T", " ")


def rejects(
    run: RunArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print ndjson, as is done without it.")
    ] = False,
    as_csv: CsvOption = False,
) -> None:
    """List every uid rejected and every row that planned none, as ndjson or csv.

    Each has its file, record number (from 1, a header not counted) and reason; a rejected uid also
    the API's request id.
    """
    from engine.report.history import REJECT_COLUMNS, find_ledger, reading, rejects_of

    _refuse_both(as_json=as_json, as_csv=as_csv)
    path = find_ledger(_state(config, state), run)
    with reading(path) as ledger, printing():
        records = rejects_of(path, ledger, run)
        if as_csv:
            _print_csv(REJECT_COLUMNS, records)
            return
        for record in records:
            print_json(record)


def _state(config: Path | None, state: Path | None) -> Path:
    from engine.config.loading import locate_state

    return locate_state(config, state=state)


def _refuse_both(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")


def _print_csv(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: csv_cell(value) for name, value in record.items()})


def _print_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str]
) -> None:
    for line in table_lines(headings, rows, numbers, columns_of(sys.stdout)):
        sys.stdout.write(line + "\n")
