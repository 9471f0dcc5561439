"""`cohortsync runs`, `show` and `rejects`: what the ledger knows."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.push import ConfigOption, JsonOption, StateOption
from engine.errors import UsageError

RunArgument = Annotated[str, typer.Argument(help="A run's name, as `cohortsync runs` lists it.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print csv.")]


def runs(
    config: ConfigOption = None, state: StateOption = None, as_json: JsonOption = False
) -> None:
    """List all runs in the state folder, the latest first."""
    from engine.report.history import all_runs

    found = all_runs(_state(config, state))
    if as_json:
        documents = [accounts.document() for accounts in found]
        sys.stdout.write(json.dumps(documents, ensure_ascii=False) + "\n")
        return
    rows = [
        (
            a.run,
            a.status,
            a.exit_status,
            a.action,
            a.cohort_id,
            a.target,
            f"{a.uids.planned:,}",
            f"{a.uids.accepted:,}",
        )
        for a in found
    ]
    _print_table(
        ("run", "status", "exit", "action", "cohort", "target", "planned", "accepted"), rows
    )


def show(
    run: RunArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show a run's books, its batches and their attempts."""
    from engine.cli.summary import print_accounts
    from engine.report.history import attempts_of, books_of, find_ledger, reading

    _refuse_both(as_json=as_json, as_csv=as_csv)
    path = find_ledger(_state(config, state), run)
    with reading(path) as ledger:
        accounts = books_of(path, ledger, run)
        attempts = attempts_of(ledger, run)
        if as_csv:
            _print_csv(attempts)
        elif as_json:
            document = {**accounts.document(), "attempts": list(attempts)}
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        else:
            print_accounts(accounts)
            _print_table(_COLUMNS, [[record[c] for c in _COLUMNS] for record in attempts])


_COLUMNS = (
    *("batch", "parent", "uid_count", "state"),
    *("attempt", "sent_at", "outcome", "http_status", "reason"),
)


def rejects(
    run: RunArgument,
    config: ConfigOption = None,
    state: StateOption = None,
    as_csv: CsvOption = False,
) -> None:
    """List every uid rejected and every row that planned none, as ndjson or csv.

    Each has its file, record number (from 1, a header not counted) and reason; a rejected uid also
    the API's request id.
    """
    from engine.report.history import find_ledger, reading, rejects_of

    with reading(find_ledger(_state(config, state), run)) as ledger:
        records = rejects_of(ledger, run)
        if as_csv:
            _print_csv(records)
            return
        for record in records:
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def _state(config: Path | None, state: Path | None) -> Path:
    from engine.config import locate_state

    return locate_state(config, state=state)


def _refuse_both(*, as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")


def _print_csv(records: Iterable[Mapping[str, Any]]) -> None:
    writer = None
    for record in records:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(record), lineterminator="\n")
            writer.writeheader()
        writer.writerow(record)


def _print_table(headings: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        # The first column names what one may want to copy; off a terminal nothing is folded.
        table.add_column(heading, overflow="fold", no_wrap=not table.columns)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, markup=False, soft_wrap=True, width=width).print(table)


_WIDE = 1000
"""Columns of a file or a pipe: more than any table takes."""
