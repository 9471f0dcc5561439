"""`cohortsync snapshot …`: what is known of a cohort, looked at and brought from elsewhere."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import (
    CohortIdOption,
    ColumnOption,
    ConfigOption,
    EndpointOption,
    ExportsArgument,
    FormatName,
    FormatOption,
    JsonOption,
    NoHeaderOption,
    ShadowOption,
    StateOption,
    StripOption,
)
from engine.cli.stdout import printing
from engine.cli.text import printable, table_lines
from engine.errors import EmptyExportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine.config import Config
    from engine.ledger.generations import Generation
    from engine.snapshots import SnapshotStore

snapshot = typer.Typer(help="What is known of a mirrored cohort.", no_args_is_help=True)


@snapshot.command("list")
def list_(
    cohort_id: CohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the snapshots of a cohort, the one that counts first."""
    settings = _load(config, endpoint, state)
    found = _at_desk(settings, cohort_id, shadow, lambda store: store.generations())
    _print(found, as_json=as_json)


@snapshot.command()
def verify(
    cohort_id: CohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read every snapshot that is kept, and say whether it is what it was when it was made."""
    settings = _load(config, endpoint, state)
    found = _at_desk(settings, cohort_id, shadow, lambda store: store.verify_all())
    _print(found, as_json=as_json)


@snapshot.command()
def export(
    path: Annotated[Path, typer.Argument(help="Where to; a Parquet file.")],
    cohort_id: CohortIdOption,
    generation: Annotated[
        int | None, typer.Option(min=1, help="By default the one that counts.")
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
    """Copy a snapshot to a file: uid, state and run of each, for `import` or other programs."""
    from engine import moving

    settings = _load(config, endpoint, state)
    _at_desk(
        settings,
        cohort_id,
        shadow,
        lambda store: moving.export(store, path, generation, members_only=members),
    )


@snapshot.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that `snapshot export` wrote.")],
    cohort_id: CohortIdOption,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    shadow: ShadowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an exported snapshot the one that counts, as when moving to another machine."""
    from engine import moving

    settings = _load(config, endpoint, state)
    made = _at_desk(settings, cohort_id, shadow, lambda store: moving.bring(store, path))
    _print([made], as_json=as_json)


def _takes_a_list(name: str, words: str, show: "Callable[[Any, bool], None]") -> None:
    """Register a command that reads a list of uids, as an export, and works on it at the desk."""

    def command(
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
        as_json: JsonOption = False,
    ) -> None:
        from engine import moving

        works = {
            "adopt": moving.adopt,
            "reconcile": moving.reconcile,
            "compare": moving.lay_beside,
        }
        settings = _load(config, endpoint, state)
        blocks = _blocks(exports, column, format_name, header=not no_header, strip=strip)
        found = _at_desk(settings, cohort_id, shadow, lambda store: works[name](store, blocks))
        show(found, as_json)

    snapshot.command(name, help=words)(command)


_takes_a_list(
    "adopt",
    "Take over lists that another script has pushed: their uids may be in the cohort. The next "
    "mirror adds those that it wants, and removes those that it does not.",
    lambda made, as_json: _print([made], as_json=as_json),
)
_takes_a_list(
    "reconcile",
    "Take a list of the cohort's real members, from elsewhere, for all that is known.",
    lambda made, as_json: _print([made], as_json=as_json),
)
_takes_a_list(
    "compare",
    "Lay a list from elsewhere beside a snapshot: who is in both, and who in one of them only.",
    lambda found, as_json: _print_comparison(found, as_json=as_json),
)


def _load(config: Path | None, endpoint: str | None, state: Path | None) -> "Config":
    from engine.config import load

    return load(config, endpoint=endpoint, state=state, need_credentials=False)


def _blocks(
    exports: list[str], column: str | None, format_name: FormatName, *, header: bool, strip: bool
) -> Any:  # noqa: ANN401 - an iterator of blocks, a type that is heavy to load
    from engine.source import ReadingOptions, open_source

    options = ReadingOptions(column=column, format=format_name.value, header=header, strip=strip)
    source = open_source(exports, options)
    with suppress(EmptyExportError):
        yield from source.blocks()


def _at_desk(
    config: "Config",
    cohort_id: str,
    shadow: bool,  # noqa: FBT001 - which snapshots, said by name at the command line
    work: "Callable[[SnapshotStore], Awaitable[Any]]",
) -> Any:  # noqa: ANN401 - whatever `work` returns
    """Do something with a cohort's snapshots, once they know of all that was sent."""
    import uvloop

    from engine.clock import SystemClock
    from engine.desk import Desk
    from engine.ledger.records import CohortKey
    from engine.sending import StopSwitch

    if not cohort_id.strip():
        raise UsageError("--cohort-id is empty")
    key = CohortKey(config.workspace.partner, cohort_id, shadow)
    desk = Desk(config, key, lambda _: None, lambda _: None, StopSwitch(), SystemClock())

    async def at_desk() -> Any:  # noqa: ANN401 - see above
        async with desk.open(0.0) as (_, store):
            await store.catch_up()
            return await work(store)

    return uvloop.run(at_desk())


def _print_comparison(found: dict[str, Any], *, as_json: bool) -> None:
    with printing():
        if as_json:
            sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
            return
        for name, value in found.items():
            shown = ", ".join(value) if isinstance(value, list) else f"{value:,}"
            sys.stdout.write(printable(f"{name.replace('_', ' '):<26} {shown}") + "\n")


def _print(found: "list[Generation]", *, as_json: bool) -> None:
    from engine.report.accounts import timestamp

    rows = [
        {
            "generation": each.number,
            "made_at": timestamp(each.made.utc_ns),
            "origin": each.origin,
            "members": each.members,
            "unknown": each.unknown,
            "out": each.out,
            "is_kept": each.file is not None,
            "sha256": each.digest.hex(),
        }
        for each in found
    ]
    with printing():
        if as_json:
            sys.stdout.write(json.dumps(rows) + "\n")
            return
        shown = [
            tuple(f"{cell:,}" if type(cell) is int else str(cell) for cell in row.values())
            for row in rows
        ]
        heads = ("generation", "made at", "origin", "members", "unknown", "out", "kept", "sha256")
        numbers = ("generation", "members", "unknown", "out")
        for line in table_lines(heads, shown, numbers=numbers):
            sys.stdout.write(printable(line) + "\n")
