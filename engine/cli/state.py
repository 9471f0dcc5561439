"""`cohortsync plans`, `abandon`, `prune`, `backup` and `restore`: what the state folder keeps."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.messages import columns_of, write_message
from engine.cli.options import (
    JsonOption,
    ProjectOptions,
    StateOptions,
    TargetOptions,
    WaitOption,
    flat,
)
from engine.cli.streams import print_json, print_lines, printing, table_on_stdout
from engine.cli.text import shortened
from engine.model.quantity import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from engine import Engine, PlanEntry, Pruned, Restored


@flat
def plans(*, where: StateOptions, as_json: JsonOption = False) -> None:
    """List the plans that are kept in the state folder, the latest first.

    `apply` takes those that can be applied; `prune` deletes those that are too old.
    """
    found = where.call(lambda engine: engine.plans())
    with printing():
        if as_json:
            print_json([each.to_dict() for each in found])
            return
        for line in _plan_lines(found, columns_of(sys.stdout)):
            sys.stdout.write(f"{line}\n")


_COUNTS = ("add", "remove", "resend")


def _plan_lines(found: "Sequence[PlanEntry]", width: int | None) -> "list[str]":
    """Return a table, with cohorts cut so that it fits, and the problems below their plans."""
    headings = ("plan", "cohort", *_COUNTS, "can be applied")
    rows = [
        (
            each.plan,
            shortened(each.cohort_id, width and _COHORT_COLUMNS),
            *(f"{each.counts[name]:,}" for name in _COUNTS),
            "yes" if each.can_be_applied else f"no: {each.problem}",
        )
        for each in found
    ]
    return list(table_on_stdout(headings, rows, _COUNTS))


_COHORT_COLUMNS = 12


@flat
def abandon(
    *,
    run: Annotated[
        str,
        typer.Argument(
            help="A run or a plan: its name, the beginning of one name only, or latest."
        ),
    ],
    target: TargetOptions,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Close an unfinished run, or a plan, for good: `resume` and `apply` leave it alone.

    What may have been applied of it stays unconfirmed.
    """

    def work(engine: "Engine") -> "Awaitable[Any]":
        return engine.abandon(run, wait_seconds=wait, note=write_message)

    closed = target.call(work, need_credentials=False)
    with printing():
        if as_json:
            print_json(closed.to_dict())
            return
        print_lines(
            [
                (
                    f"run {closed.run} is abandoned: {closed.unconfirmed:,} uids unconfirmed, "
                    f"{closed.pending:,} not sent"
                )
            ]
        )


@flat
def prune(
    *,
    where: ProjectOptions,
    keep_days: Annotated[
        int | None,
        typer.Option(
            "--keep-days",
            metavar="N",
            min=1,
            max=36_500,
            help="Days for which runs are kept; else the configured ones.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Delete nothing; say what would be deleted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what is older than `state.keep_days` and needed by no later run.

    Never an unfinished run, one with uids whose membership is unknown, the last run of a cohort, or
    the current snapshot. Runs that send meanwhile are not delayed.
    """

    def work(engine: "Engine") -> "Awaitable[Pruned]":
        return engine.prune(keep_days=keep_days, dry_run=dry_run)

    pruned = where.call(work)
    with printing():
        if as_json:
            print_json(pruned.to_dict())
        else:
            print_lines(_pruned_lines(pruned))


def _pruned_lines(pruned: "Pruned") -> "list[str]":
    verb = "would delete" if pruned.is_dry_run else "deleted"
    lines = [
        (
            f"{verb} {pruned.runs:,} runs with {pruned.attempts:,} attempts and {pruned.rejects:,} "
            f"rejects, {pruned.plans:,} plans, {pruned.snapshots:,} snapshots, "
            f"{pruned.sync_records:,} records of syncs and {pruned.files:,} other files"
        )
    ]
    freed = f"{_megabytes(pruned.file_bytes)} of files"
    if not pruned.is_dry_run:
        freed += f", {_megabytes(pruned.ledger_bytes)} of ledgers"
    lines.append(f"freed {freed}" if not pruned.is_dry_run else f"would free {freed}")
    if pruned.skipped:
        lines.append(f"skipped, as a process works on it: {', '.join(pruned.skipped)}")
    return lines


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The backup's folder.")]


@flat
def backup(*, folder: FolderArgument, where: StateOptions, as_json: JsonOption = False) -> None:
    """Copy ledgers and snapshots, as of one moment, to a new folder; runs go on meanwhile.

    On the same file system the snapshots share their bytes with the state folder: copy the backup
    to another disk.
    """
    made = where.call(lambda engine: engine.backup(folder))
    with printing():
        if as_json:
            print_json(made.to_dict())
            return
        print_lines(
            [
                (
                    f"backed up {counted(made.ledgers, 'ledger')} and "
                    f"{counted(made.snapshots, 'snapshot')} to "
                    f"{made.folder}: {made.files:,} files, {_megabytes(made.bytes)}"
                )
            ]
        )


@flat
def restore(*, folder: FolderArgument, where: ProjectOptions, as_json: JsonOption = False) -> None:
    """Replace the state folder by a backup, when no command runs; the present state is set aside.

    What was sent after the backup is unknown: the guard `restored` stops the next mirror of each
    cohort, and says what to do.
    """
    restored = where.call(lambda engine: engine.restore(folder))
    with printing():
        if as_json:
            print_json(restored.to_dict())
        else:
            print_lines(_restored_lines(restored))


def _restored_lines(restored: "Restored") -> "list[str]":
    lines = [f"restored the backup of {restored.backup_made_at} from {restored.backup}"]
    if restored.set_aside:
        lines.append(f"set aside {restored.set_aside}: delete it once it is not needed")
    if restored.abandoned:
        lines.append(f"closed    {', '.join(restored.abandoned)}")
    if restored.cohorts:
        lines.append(
            f"unknown   each uid of {', '.join(restored.cohorts)}: take over each export that was "
            "sent after the backup, by `cohortsync snapshot adopt EXPORT --cohort-id ID`, then "
            "mirror or sync the cohort; the guard `restored` says how to lift it"
        )
    return lines
