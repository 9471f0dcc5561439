"""`cohortsync push` and `cohortsync resume`."""

import sys
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import (
    CohortDescriptionOption,
    CohortIdOption,
    CohortNameOption,
    ColumnOption,
    ConfigOption,
    EndpointOption,
    ExportsArgument,
    FormatName,
    FormatOption,
    JsonOption,
    NoHeaderOption,
    StateOption,
    StripOption,
    WaitOption,
)
from engine.cohort import Action, Cohort
from engine.errors import ExitStatus, SourceError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import Config
    from engine.push import PushRequest
    from engine.report.history import UnfinishedRun
    from engine.source import ReadingOptions


class OnChanged(StrEnum):
    """What to do when the export no longer holds what the ledger knows of it."""

    REFUSE = "refuse"
    RESTART = "restart"


OnChangedOption = Annotated[
    OnChanged,
    typer.Option(help="When an unfinished run's export has changed: refuse, or begin a new run."),
]


def push(
    exports: ExportsArgument,
    cohort_id: CohortIdOption,
    cohort_name: CohortNameOption,
    cohort_description: CohortDescriptionOption = None,
    action: Annotated[Action, typer.Option(help="Add the uids, or remove them.")] = Action.ADD,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    on_changed: OnChangedOption = OnChanged.REFUSE,
    wait: WaitOption = 0.0,
    record: Annotated[
        bool,
        typer.Option("--record", help="Let the snapshot of a mirrored cohort follow this push."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and pack everything; send and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Push an export's uids into a cohort, at the API's ceiling, and account for every one.

    Run the same command again after a crash, a signal or exit status 75: it goes on where it was.
    """
    from engine.config import load
    from engine.source import ReadingOptions

    cohort = Cohort(cohort_id, cohort_name, cohort_description)
    settings = load(config, endpoint=endpoint, state=state, need_credentials=not dry_run)
    options = ReadingOptions(
        column=column, format=format_name.value, header=not no_header, strip=strip
    )
    request = make_request(exports, options, cohort, action, on_changed=on_changed, wait=wait)
    request = replace(request, records=record)
    sys.exit(carry_out(request, settings, dry_run=dry_run, as_json=as_json))


def resume(
    run: Annotated[str | None, typer.Argument(help="By default the latest unfinished run.")] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    on_changed: OnChangedOption = OnChanged.REFUSE,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Go on with an unfinished run, as its own command would."""
    import asyncio

    from engine.cli.summary import print_nothing
    from engine.config import load
    from engine.ledger.changes import identity_of
    from engine.ledger.place import is_held, ledger_folder
    from engine.push import key_of
    from engine.report.history import find_unfinished
    from engine.source import ReadingOptions
    from engine.source.urls import kept

    settings = load(config, endpoint=endpoint, state=state)
    workspace = settings.workspace
    here = (workspace.endpoint.url, workspace.id, workspace.partner)
    found = find_unfinished(settings.state_dir, run, here)
    folder = ledger_folder(settings.state_dir, workspace.endpoint.url, workspace.id)
    if found is not None and found.target == here and is_held(folder):
        # Whoever works on it may finish it: then it is not to be begun anew.
        asyncio.run(_wait_until_free(folder, wait, settings))
        found = find_unfinished(settings.state_dir, run, here)
    if found is None:
        why = "no run is left to go on with"
        if (other := find_unfinished(settings.state_dir, None)) is not None:
            why = (
                f"no run for {' / '.join(here)} is left to go on with; run {other.name} belongs to "
                f"{' / '.join(other.target)}"
            )
        sys.stderr.write(f"nothing to resume: {why}\n")
        if as_json:
            print_nothing("nothing_to_resume")
        return
    if found.is_piped:
        raise UsageError(
            f"run {found.name} read from a pipe, which only its own command can repeat",
            hint="pipe the same data into the same `cohortsync push` again, or other data with "
            "--on-changed restart",
        )
    _refuse_redacted(found)
    if here != found.target:
        raise UsageError(
            f"run {found.name} belongs to {' / '.join(found.target)}, and the configuration names "
            f"{' / '.join(here)}",
            hint="pass the configuration that the run was begun with, by --config",
        )
    try:
        request = make_request(
            found.exports,
            ReadingOptions(**found.reading),
            Cohort(found.cohort_id, found.cohort_name, found.cohort_description),
            Action(found.action),
            on_changed=on_changed,
            wait=wait,
        )
    except SourceError as error:
        if error.exit_status is ExitStatus.USAGE:
            error.hint = f"{_WHERE_HINT}; {error.hint}" if error.hint else _WHERE_HINT
        raise
    if identity_of(key_of(request, settings)) != found.identity:
        raise UsageError(
            f"run {found.name} began with other files than "
            f"{', '.join(kept(export) for export in found.exports)} stands for here and now",
            hint=_WHERE_HINT,
        )
    sys.exit(carry_out(request, settings, as_json=as_json))


def _refuse_redacted(found: "UnfinishedRun") -> None:
    """Raise `UsageError` for a run that only its own command can go on with."""
    from engine.source.urls import is_redacted

    if any(is_redacted(export) for export in found.exports):
        raise UsageError(
            f"run {found.name} read from a URL whose credentials or signature are not kept",
            hint="run the same `cohortsync push` command again: it goes on with this run",
        )


_WHERE_HINT = "resume it in the folder that it was begun in, with the same files in place"


def make_request(
    exports: list[str],
    options: "ReadingOptions",
    cohort: Cohort,
    action: Action,
    *,
    on_changed: OnChanged = OnChanged.REFUSE,
    wait: float = 0.0,
) -> "PushRequest":
    """Open the exports, and return what is to be pushed; raises as `open_source` does."""
    from engine.push import PushRequest
    from engine.source import open_source

    restarts = on_changed is OnChanged.RESTART
    return PushRequest(
        source=open_source(exports, options, keeps_pipes=restarts),
        exports=exports,
        reading=asdict(options),
        cohort=cohort,
        action=action,
        restart_if_changed=restarts,
        wait_seconds=wait,
    )


async def _wait_until_free(folder: "Path", wait: float, config: "Config") -> None:
    from engine.cli.view import make_view
    from engine.ledger.place import sole_writer

    view = make_view(config.pacing, lambda: None)
    async with sole_writer(folder, wait, waiting=lambda who: view.note(f"waiting for {who}")):
        pass


def carry_out(
    request: "PushRequest", config: "Config", *, dry_run: bool = False, as_json: bool = False
) -> ExitStatus:
    """Push, show it on stderr, print the books on stdout; return how it ended."""
    from engine.cli.running import run_shown, tell
    from engine.cli.summary import print_result
    from engine.cli.view import make_view
    from engine.push import dry_run as push_nothing
    from engine.push import opening_of
    from engine.push import push as push_export

    view = make_view(config.pacing, lambda: request.source.share_read)
    tell(view, *config.notes, *request.source.notes, request.cohort.warning)
    if dry_run:
        view.opened(opening_of(request, config))
        result = push_nothing(request, config)
    else:
        result = run_shown(view, lambda **parts: push_export(request, config, **parts))
    print_result(result, as_json=as_json)
    return result.exit_status
