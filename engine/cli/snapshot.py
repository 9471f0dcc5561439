"""`cohortsync snapshot …`: what is known of a cohort, looked at and brought from elsewhere."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.messages import columns_of, tell_error
from engine.cli.options import (
    LARGEST_GENERATION,
    AllowOption,
    CohortIdOption,
    ColumnOption,
    Command,
    ConfigOption,
    EndpointOption,
    ExportsArgument,
    FormatName,
    FormatOption,
    Group,
    JsonOption,
    KnownCohortIdOption,
    NoHeaderOption,
    ReasonOption,
    ShadowOption,
    StateOption,
    StripOption,
    WaitOption,
    require_reason,
)
from engine.cli.streams import print_json, print_lines, printing
from engine.cli.text import table_lines
from engine.errors import ExitStatus, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config.loading import Config
    from engine.delivery.stop import StopSwitch
    from engine.ledger.snapshot_records import Generation
    from engine.runs.transfer import Brought
    from engine.snapshot.store import SnapshotStore
    from engine.source import ExportSource

snapshot = typer.Typer(help="What is known of a mirrored cohort.", cls=Group)


@dataclass(frozen=True, slots=True)
class _Where:
    """Whose snapshots, and where they stand."""

    cohort_id: str
    config: Path | None
    endpoint: str | None
    state: Path | None
    shadow: bool
    wait: float = 0.0


@snapshot.command("list", cls=Command)
def list_(
    cohort_id: KnownCohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the snapshots of a cohort, the one that counts first."""
    where = _Where(cohort_id, config, endpoint, state, shadow)
    found = _look(where, lambda store, _: store.generations())
    _print([_row(each) for each in found], as_json=as_json)


@snapshot.command(cls=Command)
def verify(
    cohort_id: KnownCohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read every snapshot that is kept, and say whether it is what it was when it was made.

    Exit status 2 says that one of them is not.
    """
    where = _Where(cohort_id, config, endpoint, state, shadow)
    found = _look(where, lambda store, _: store.verify_all())
    rows = [_row(each) | {"verdict": wrong or "whole"} for each, wrong in found]
    _print(rows, as_json=as_json)
    if broken := [each.number for each, wrong in found if wrong]:
        generations = ", ".join(map(str, broken))
        tell_error(
            LedgerError(
                f"not what it was when it was made: generation {generations}",
                hint="`cohortsync mirror` with --trust goes on from one that is whole",
            )
        )
        sys.exit(ExitStatus.USAGE)


@snapshot.command(cls=Command)
def export(
    path: Annotated[Path, typer.Argument(help="Where to; a Parquet file.")],
    cohort_id: KnownCohortIdOption,
    generation: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=LARGEST_GENERATION,
            help="Its number; by default the one that counts.",
        ),
    ] = None,
    members: Annotated[
        bool,
        typer.Option("--members", help="Only the uids that are in: an export like any other."),
    ] = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
) -> None:
    """Copy a snapshot to a Parquet file: uid, state (1 in, 2 and 4 unknown, 3 out) and run."""
    from engine.runs import transfer as moving

    if str(path) == "-":
        raise UsageError("a snapshot can't be written to stdout", hint="name a file")
    where = _Where(cohort_id, config, endpoint, state, shadow)
    target = _target(where)
    _look(
        where,
        lambda store, _: moving.export(store, path, generation, target, members_only=members),
    )


@snapshot.command("import", cls=Command)
def import_(
    path: Annotated[Path, typer.Argument(help="A file that `snapshot export` wrote.")],
    cohort_id: CohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    wait: WaitOption = 0.0,
    from_elsewhere: Annotated[
        bool,
        typer.Option(
            "--from-elsewhere", help="Though it tells of another endpoint, workspace or partner."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an exported snapshot the one that counts, as when moving to another machine."""
    from engine.runs import transfer as moving

    where = _Where(cohort_id, config, endpoint, state, shadow, wait)
    target = _target(where)
    made = _work(
        where,
        lambda store, _, __: moving.bring(store, path, target, from_elsewhere=from_elsewhere),
        catches_up=False,
    )
    _print([_row(made)], as_json=as_json)


@snapshot.command(cls=Command)
def compare(
    exports: ExportsArgument,
    cohort_id: KnownCohortIdOption,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Lay a list from elsewhere beside a snapshot: who is in both, and who in one of them only."""
    from engine.report.files import files_document, files_line
    from engine.runs import transfer as moving

    where = _Where(cohort_id, config, endpoint, state, shadow)
    source = _open(exports, column, format_name, header=not no_header, strip=strip)
    found = _look(where, lambda store, switch: moving.lay_beside(store, source.blocks(), switch))
    with printing():
        if as_json:
            print_json(found | files_document(source.files))
            return
        sys.stdout.write(files_line(source.files) + "\n")
        for name, value in found.items():
            shown = ", ".join(value) if isinstance(value, list) else f"{value:,}"
            print_lines([f"{name.replace('_', ' '):<26} {shown}"], indent=27)


@snapshot.command(cls=Command)
def adopt(
    exports: ExportsArgument,
    cohort_id: CohortIdOption,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Take over lists that another script has pushed: their uids may be in the cohort.

    The next mirror adds those that it wants, and removes those that it does not.
    """
    from engine.runs import transfer as moving

    where = _Where(cohort_id, config, endpoint, state, shadow, wait)
    source = _open(exports, column, format_name, header=not no_header, strip=strip)
    brought = _work(where, lambda store, switch, _: moving.adopt(store, source.blocks(), switch))
    _print_brought(brought, source, as_json=as_json)


@snapshot.command(cls=Command)
def reconcile(
    exports: ExportsArgument,
    cohort_id: CohortIdOption,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    wait: WaitOption = 0.0,
    allow: AllowOption = None,
    reason: ReasonOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a list of the cohort's real members, from elsewhere, for all that is known."""
    from engine.planning.allowances import Allowance
    from engine.runs import transfer as moving

    require_reason(allow, reason)
    allowances = Allowance.parse_all(allow or [])
    where = _Where(cohort_id, config, endpoint, state, shadow, wait)
    source = _open(exports, column, format_name, header=not no_header, strip=strip)
    brought = _work(
        where,
        lambda store, switch, settings: moving.reconcile(
            *(store, source.blocks(), switch, settings.guards, allowances, source.files),
            reason=reason,
        ),
    )
    _print_brought(brought, source, as_json=as_json)


def _open(
    exports: list[str], column: str | None, format_name: FormatName, *, header: bool, strip: bool
) -> "ExportSource":
    from engine.source import ReadingOptions, open_source

    options = ReadingOptions(column=column, format=format_name.value, header=header, strip=strip)
    return open_source(exports, options)


def _load(where: _Where) -> "Config":
    from engine.config.loading import load
    from engine.model.cohort import check_id

    check_id(where.cohort_id)
    return load(where.config, endpoint=where.endpoint, state=where.state, need_credentials=False)


def _target(where: _Where) -> str:
    """Name what a snapshot is of besides a cohort."""
    workspace = _load(where).workspace
    return f"{workspace.endpoint.url} / {workspace.id} / {workspace.partner}"


def _look(where: _Where, look: "Callable[[SnapshotStore, StopSwitch], Awaitable[Any]]") -> Any:  # noqa: ANN401 - whatever `look` returns
    """Look at a cohort's snapshots; whoever works on them goes on meanwhile."""
    from engine.cli.running import stoppable
    from engine.clock import SystemClock
    from engine.ledger.sqlite.access import ledger_in
    from engine.ledger.sqlite.reader import LedgerReader
    from engine.model.cohort import CohortKey
    from engine.report.history import reading
    from engine.snapshot.store import SnapshotStore

    config = _load(where)
    workspace = config.workspace
    folder = config.place.folder
    key = CohortKey(workspace.partner, where.cohort_id, where.shadow)
    unknown = UsageError(
        f"there is no {'shadow ' if where.shadow else ''}snapshot of cohort {where.cohort_id} of "
        f"partner {workspace.partner}, workspace {workspace.id} at {workspace.endpoint.label}",
        hint="`cohortsync runs` lists the cohorts that were mirrored",
    )
    if (path := ledger_in(folder)) is None:
        raise unknown

    async def work(switch: "StopSwitch") -> Any:  # noqa: ANN401 - see above
        with reading(path) as ledger:
            store = SnapshotStore(
                *(
                    folder,
                    LedgerReader(ledger, path, SystemClock()).snapshots,
                    key,
                    config.mirror,
                    config.planning,
                ),
                SystemClock(),
            )
            if not await store.generations():
                raise unknown
            return await look(store, switch)

    return stoppable(work)


def _work(
    where: _Where,
    work: "Callable[[SnapshotStore, StopSwitch, Config], Awaitable[Any]]",
    *,
    catches_up: bool = True,
) -> Any:  # noqa: ANN401 - whatever `work` returns
    """Change a cohort's snapshots, once they know of all that was sent."""
    from engine.cli.running import show_notes, stoppable
    from engine.cli.view import make_view
    from engine.model.cohort import CohortKey
    from engine.runs.context import RunContext, RunObservers
    from engine.runs.session import WorkspaceSession

    config = _load(where)
    key = CohortKey(config.workspace.partner, where.cohort_id, where.shadow)
    view = make_view(config.pacing, lambda: None)
    show_notes(view, *config.notes)

    async def in_session(switch: "StopSwitch") -> Any:  # noqa: ANN401 - see above
        async with WorkspaceSession(config, switch=switch) as session:
            context = RunContext(session, key, RunObservers(note=view.note))
            async with context.open(where.wait) as (_, store):
                if catches_up:
                    await store.catch_up()
                return await work(store, switch, config)

    return stoppable(in_session)


def _row(generation: "Generation") -> dict[str, Any]:
    from engine.report.accounts import timestamp

    return {
        "generation": generation.number,
        "made_at": timestamp(generation.made.utc_ns),
        "origin": generation.origin,
        "members": generation.members,
        "unknown": generation.unknown,
        "out": generation.out,
        "is_kept": generation.file is not None,
        "sha256": generation.digest.hex(),
        "lifted": list(generation.lifted),
    }


def _print_brought(brought: "Brought", source: "ExportSource", *, as_json: bool) -> None:
    from engine.report.files import files_document, files_line

    rows = brought.rows
    read = {"read": rows.rows_read, "blank": rows.blank, "invalid": rows.invalid}
    if as_json:
        files = files_document(source.files)
        _print([_row(brought.generation) | {"rows": read} | files], as_json=True)
        return
    _print([_row(brought.generation)], as_json=False)
    with printing():
        counts = f"{rows.rows_read:,} read = {rows.blank:,} blank + {rows.invalid:,} invalid"
        print_lines([files_line(source.files), f"rows      {counts} + {rows.uids:,} with a uid"])


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    with printing():
        if as_json:
            print_json(rows)
            return
        names = [name for name in rows[0] if name not in _ONLY_IN_JSON]
        headings = [name.removeprefix("is_").replace("_", " ") for name in names]
        shown = [tuple(_cell(row[name]) for name in names) for row in rows]
        numbers = ("generation", "members", "unknown", "out")
        for line in table_lines(headings, shown, numbers, columns_of(sys.stdout)):
            sys.stdout.write(f"{line}\n")


_ONLY_IN_JSON = ("lifted",)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
