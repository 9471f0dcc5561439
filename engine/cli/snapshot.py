"""`cohortsync snapshot …`: lists, verifies, exports and creates snapshots of a cohort."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from engine.cli.cohort_options import KnownCohortOptions
from engine.cli.command import Command, Group
from engine.cli.export_options import ListOptions
from engine.cli.messages import write_error
from engine.cli.options import (
    LARGEST_GENERATION,
    GuardOptions,
    JsonOption,
    TargetOptions,
    WaitOption,
    flat,
)
from engine.cli.streams import print_json, print_lines, printing, table_on_stdout

if TYPE_CHECKING:
    from engine import SnapshotOfList, Snapshots, StopSwitch

T = TypeVar("T")

snapshot = typer.Typer(help="What is known of a mirrored cohort.", cls=Group)


@dataclass(frozen=True, slots=True)
class SnapshotsOptions(TargetOptions):
    """Options that select the snapshots of a cohort."""

    shadow: Annotated[
        bool, typer.Option("--shadow", help="The snapshots of `mirror --shadow`.")
    ] = False


@snapshot.command("list", cls=Command)
@flat
def list_(
    *, cohort: KnownCohortOptions, where: SnapshotsOptions, as_json: JsonOption = False
) -> None:
    """List the snapshots of a cohort, the current one first."""
    found = _run(where, cohort, lambda snapshots: snapshots.entries())
    _print([each.to_dict() for each in found], as_json=as_json)


@snapshot.command(cls=Command)
@flat
def verify(
    *, cohort: KnownCohortOptions, where: SnapshotsOptions, as_json: JsonOption = False
) -> None:
    """Read every snapshot that is kept, and show whether it has changed since it was made.

    Exit status 2 means that one of them has.
    """
    from engine.report.snapshots import damage_in

    found = _run(where, cohort, lambda snapshots: snapshots.verify())
    _print([each.to_dict() for each in found], as_json=as_json)
    if (error := damage_in(found)) is not None:
        write_error(error)
        sys.exit(error.exit_status)


@snapshot.command(cls=Command)
@flat
def export(
    *,
    path: Annotated[Path, typer.Argument(help="Where to; a Parquet file.")],
    cohort: KnownCohortOptions,
    generation: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=LARGEST_GENERATION,
            help="Its number; by default the current one.",
        ),
    ] = None,
    members: Annotated[
        bool,
        typer.Option("--members", help="Only the uids that are in: an export like any other."),
    ] = False,
    where: SnapshotsOptions,
) -> None:
    """Copy a snapshot to a Parquet file: uid, state (1 in, 2 and 4 unknown, 3 out) and run."""
    _run(
        where,
        cohort,
        lambda snapshots: snapshots.export(path, generation, members_only=members),
    )


@snapshot.command("import", cls=Command)
@flat
def import_(
    *,
    path: Annotated[Path, typer.Argument(help="A file that `snapshot export` wrote.")],
    cohort: KnownCohortOptions,
    where: SnapshotsOptions,
    wait: WaitOption = 0.0,
    from_elsewhere: Annotated[
        bool,
        typer.Option(
            "--from-elsewhere", help="Accept a file of another endpoint, workspace or partner."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an exported snapshot the current one, as after a move to another machine."""
    made = _run(
        where,
        cohort,
        lambda snapshots: snapshots.import_(path, from_elsewhere=from_elsewhere, wait_seconds=wait),
        changes=True,
    )
    _print([made.to_dict()], as_json=as_json)


@snapshot.command(cls=Command)
@flat
def compare(
    *,
    list_: ListOptions,
    cohort: KnownCohortOptions,
    where: SnapshotsOptions,
    as_json: JsonOption = False,
) -> None:
    """Compare a list with a snapshot: uids in both, and uids in only one of them."""
    from engine.report.files import files_line

    found = _run(
        where, cohort, lambda snapshots: snapshots.compare(list_.exports, **list_.reading())
    )
    with printing():
        if as_json:
            print_json(found.to_dict())
            return
        print_lines([files_line(found.files)])
        for name, value in found.counts.items():
            shown = ", ".join(value) if isinstance(value, list) else f"{value:,}"
            print_lines([f"{name.replace('_', ' '):<26} {shown}"], indent=27)


@snapshot.command(cls=Command)
@flat
def adopt(
    *,
    list_: ListOptions,
    cohort: KnownCohortOptions,
    where: SnapshotsOptions,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Add lists that another program has pushed: their uids may be in the cohort.

    The next mirror adds those that its export holds, and removes the others.
    """
    made = _run(
        where,
        cohort,
        lambda snapshots: snapshots.adopt(list_.exports, wait_seconds=wait, **list_.reading()),
        changes=True,
    )
    _print_made_of_list(made, as_json=as_json)


@snapshot.command(cls=Command)
@flat
def reconcile(
    *,
    list_: ListOptions,
    cohort: KnownCohortOptions,
    where: SnapshotsOptions,
    wait: WaitOption = 0.0,
    guards: GuardOptions,
    as_json: JsonOption = False,
) -> None:
    """Replace the current snapshot by a list of the cohort's real members."""
    made = _run(
        where,
        cohort,
        lambda snapshots: snapshots.reconcile(
            list_.exports,
            allow=guards.allow or (),
            reason=guards.reason,
            wait_seconds=wait,
            **list_.reading(),
        ),
        changes=True,
    )
    _print_made_of_list(made, as_json=as_json)


def _run(
    where: SnapshotsOptions,
    cohort: KnownCohortOptions,
    work: "Callable[[Snapshots], Awaitable[T]]",
    *,
    changes: bool = False,
) -> T:
    """Run `work` with a cohort's snapshots; notes are shown only with `changes`."""
    from engine.cli.running import StopSignals, shown

    named = cohort.named()

    async def run(switch: "StopSwitch") -> T:
        async with where.open(need_credentials=False) as engine:
            snapshots = engine.snapshots(**named, shadow=where.shadow, switch=switch)
            if not changes:
                return await work(snapshots)
            with shown(engine, switch, named["cohort"]) as (view, _):
                return await work(replace(snapshots, note=view.note))

    with StopSignals() as stops:
        return stops.run(run)


def _print_made_of_list(made: "SnapshotOfList", *, as_json: bool) -> None:
    from engine.report.files import files_line

    if as_json:
        _print([made.to_dict()], as_json=True)
        return
    _print([made.entry.to_dict()], as_json=False)
    with printing():
        counts = f"{made.rows_read:,} read = {made.blank:,} blank + {made.invalid:,} invalid"
        print_lines([files_line(made.files), f"rows      {counts} + {made.uids:,} with a uid"])


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    with printing():
        if as_json:
            print_json(rows)
            return
        names = [name for name in rows[0] if name not in _ONLY_IN_JSON]
        headings = [name.removeprefix("is_").replace("_", " ") for name in names]
        shown = [tuple(_cell(row[name]) for name in names) for row in rows]
        numbers = ("generation", "members", "unknown", "out")
        for line in table_on_stdout(headings, shown, numbers):
            sys.stdout.write(f"{line}\n")


_ONLY_IN_JSON = ("lifted",)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
