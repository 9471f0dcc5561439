"""`cohortsync push` and `cohortsync resume`."""

import sys
from dataclasses import asdict, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import (
    AllowOption,
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
    ReasonOption,
    StateOption,
    StripOption,
    WaitOption,
    require_reason,
)
from engine.errors import ExitStatus, SourceError, UsageError
from engine.model.cohort import Action, Cohort

if TYPE_CHECKING:
    from engine.cli.running import StopSignals
    from engine.config.loading import Config
    from engine.planning.allowances import Allowance
    from engine.report.history import UnfinishedRun
    from engine.report.result import RunResult
    from engine.runs.push import PushRequest
    from engine.source import ReadingOptions
    from engine.source.block import Source


class OnChanged(StrEnum):
    """What to do when the export no longer holds what the ledger knows of it."""

    REFUSE = "refuse"
    RESTART = "restart"


OnChangedOption = Annotated[
    OnChanged,
    typer.Option(
        help="Where an unfinished run can't go on, as its export has changed or a later run has "
        "touched the cohort: refuse, or begin a new run."
    ),
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
    allow: AllowOption = None,
    reason: ReasonOption = None,
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
    from engine.config.loading import credentials_problem, load
    from engine.source import ReadingOptions

    cohort = Cohort(cohort_id, cohort_name, cohort_description)
    settings = load(config, endpoint=endpoint, state=state, need_credentials=not dry_run)
    options = ReadingOptions(
        column=column, format=format_name.value, header=not no_header, strip=strip
    )
    allowances = _allowances(allow, reason)
    request = make_request(exports, options, cohort, action, on_changed=on_changed, wait=wait)
    request = replace(request, allowances=allowances, reason=reason, records=record)
    lacking = credentials_problem(config) if dry_run else None
    sys.exit(carry_out(request, settings, dry_run=dry_run, lacking=lacking, as_json=as_json))


def resume(
    run: Annotated[str | None, typer.Argument(help="By default the latest unfinished run.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Go on with each unfinished run, the earliest first.")
    ] = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    on_changed: OnChangedOption = OnChanged.REFUSE,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Go on with an unfinished run, as its own command would.

    With --all the exit status is the worst of them, and --json prints one document with all.
    """
    from engine.cli.messages import tell
    from engine.cli.resuming import resume_all, wait_until_free
    from engine.cli.summary import print_nothing
    from engine.config.loading import load
    from engine.report.history import find_unfinished, unfinished_runs

    if run is not None and every:
        raise UsageError("--all and the name of a run exclude each other")
    settings = load(config, endpoint=endpoint, state=state)
    workspace = settings.workspace
    here = (settings.place.endpoint, workspace.id, workspace.partner)
    found = find_unfinished(settings.state_dir, run, here)
    if found is not None and found.target == here and wait_until_free(settings, found, wait):
        # Whoever worked on it may have finished it: then it is not to be begun anew.
        found = find_unfinished(settings.state_dir, run, here)
    if found is None:
        why = "no run is left to go on with"
        if (other := find_unfinished(settings.state_dir, None)) is not None:
            why = (
                f"no run for {' / '.join(here)} is left to go on with; run {other.name} belongs to "
                f"{' / '.join(other.target)}"
            )
        tell(f"nothing to resume: {why}")
        if as_json:
            print_nothing("nothing_to_resume")
        return
    if every:
        runs = unfinished_runs(settings.state_dir, here)
        request_of = partial(_request_of, config=settings, on_changed=on_changed, wait=wait)
        sys.exit(resume_all(runs, request_of, settings, as_json=as_json))
    request = _request_of(found, settings, on_changed, wait)
    others = [each.name for each in unfinished_runs(settings.state_dir, here)]
    if others := [name for name in others if name != found.name]:
        tell(
            f"also unfinished: {', '.join(others)}; `cohortsync resume --all` goes on with each",
            label="note",
        )
    sys.exit(carry_out(request, settings, as_json=as_json))


def _request_of(
    found: "UnfinishedRun", config: "Config", on_changed: OnChanged, wait: float
) -> "PushRequest":
    """Return the request that goes on with a run; raises what keeps it from going on."""
    from engine.runs.push import key_of
    from engine.source import ReadingOptions
    from engine.source.urls import kept

    workspace = config.workspace
    here = (config.place.endpoint, workspace.id, workspace.partner)
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
    if key_of(request, config).identity != found.identity:
        raise UsageError(
            f"run {found.name} began with other files than "
            f"{', '.join(kept(export) for export in found.exports)} stands for here and now",
            hint=_WHERE_HINT,
        )
    return request


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
    from engine.runs.push import PushRequest
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


def uids_expected(source: "Source") -> float | None:
    """Estimate how many uids a source has, by the share that was read; None where none is known."""
    return source.uids_read / source.share_read if source.share_read else None


def _allowances(allow: list[str] | None, reason: str | None) -> "list[Allowance]":
    from engine.planning.allowances import Allowance, Guard

    require_reason(allow, reason)
    allowances = Allowance.parse_all(allow or [])
    for each in allowances:
        if each.guard is not Guard.NAME:
            raise UsageError(
                f"{each.flag}: this guard judges no push", hint="a push has the guard 'name' alone"
            )
    return allowances


def carry_out(
    request: "PushRequest",
    config: "Config",
    *,
    dry_run: bool = False,
    lacking: str | None = None,
    as_json: bool = False,
    signalled: "StopSignals | None" = None,
) -> ExitStatus:
    """Push, show it on stderr, print the accounts on stdout; return how it ended.

    `lacking` is what a dry run may do without, and a push may not.
    """
    from engine.cli.summary import print_result

    result = push_shown(request, config, dry_run=dry_run, lacking=lacking, signalled=signalled)
    print_result(result, as_json=as_json)
    return result.exit_status


def push_shown(
    request: "PushRequest",
    config: "Config",
    *,
    dry_run: bool = False,
    lacking: str | None = None,
    signalled: "StopSignals | None" = None,
) -> "RunResult":
    """Push, and show it on stderr while it goes on."""
    from engine.cli.running import run_shown, show_notes, stoppable
    from engine.cli.view import make_view
    from engine.runs.dry_run import dry_run as push_nothing
    from engine.runs.push import opening_of
    from engine.runs.push import push as push_export

    view = make_view(config.pacing, lambda: uids_expected(request.source))
    show_notes(view, *config.notes, *request.source.notes, request.cohort.warning)
    if dry_run:
        view.opened(opening_of(request, config))
        if lacking is not None:
            view.note(lacking, label="warning")
        return stoppable(
            lambda switch: push_nothing(request, config, note=view.note, switch=switch)
        )
    return run_shown(
        view,
        config,
        lambda session, observers: push_export(request, session, observers),
        signalled=signalled,
    )
