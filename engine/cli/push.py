"""`cohortsync push` and `cohortsync resume`."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engine.cli.cohort_options import CohortOptions
from engine.cli.export_options import FilteredExportOptions
from engine.cli.options import GuardOptions, JsonOption, TargetOptions, WaitOption, flat
from engine.errors import CohortSyncError, UsageError
from engine.model.cohort import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import (
        Engine,
        FailedRun,
        NothingToResume,
        Observers,
        ResumedRuns,
        RunResult,
        StopSwitch,
    )
    from engine.cli.run_view import View

OnChangedOption = Annotated[
    Literal["refuse", "restart"] | None,
    typer.Option(
        help="Where an unfinished run can't go on, as its export has changed or a later run has "
        "touched the cohort: refuse, which is the default, or begin a new run."
    ),
]


@flat
def push(
    *,
    cohort: CohortOptions,
    action: Annotated[
        Action | None, typer.Option(help="Add the uids, which is the default, or remove them.")
    ] = None,
    export: FilteredExportOptions,
    target: TargetOptions,
    on_changed: OnChangedOption = None,
    wait: WaitOption = 0.0,
    guards: GuardOptions,
    record: Annotated[
        bool,
        typer.Option("--record", help="Update the snapshot of a mirrored cohort by this push."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and pack everything; send and write nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Push an export's uids into a cohort, at the API's ceiling, and account for every one.

    Run the same command again after a crash, a signal or exit status 75: it resumes the run.
    """
    from engine.cli.running import carry_out

    named = cohort.named()
    exports = export.names_for(named)

    async def start(engine: "Engine", _: "View", observers: "Observers") -> "RunResult":
        return await engine.push(
            exports,
            named,
            action=action,
            **export.arguments(),
            on_changed=on_changed,
            record=record,
            allow=guards.allow or (),
            reason=guards.reason,
            wait_seconds=wait,
            dry_run=dry_run,
            **observers,
        )

    opening = target.open(need_credentials=not dry_run)
    sys.exit(carry_out(opening, start, as_json=as_json, cohort=cohort.cohort))


@flat
def resume(
    *,
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run's name, or its beginning; by default the latest unfinished run."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Resume each unfinished run, the earliest first.")
    ] = False,
    target: TargetOptions,
    on_changed: OnChangedOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Resume an unfinished run, as its own command would.

    With --all the exit status is the worst of them, and --json prints one document with all.
    """
    from engine.cli.messages import write_message
    from engine.cli.running import StopSignals, shown

    if run is not None and every:
        raise UsageError("--all and the name of a run exclude each other")

    async def resume_one(switch: "StopSwitch") -> "RunResult | NothingToResume":
        async with target.open() as engine:
            with shown(engine, switch) as (_, observers):
                return await engine.resume(
                    run, on_changed=on_changed or "refuse", wait_seconds=wait, **observers
                )

    async def resume_all(switch: "StopSwitch") -> "ResumedRuns | NothingToResume":
        async with target.open() as engine:

            @contextmanager
            def follow(_run: str) -> "Iterator[Observers]":
                with shown(engine, switch) as (_, observers):
                    yield observers

            return await engine.resume_all(
                on_changed=on_changed or "refuse",
                wait_seconds=wait,
                follow=follow,
                ended=lambda result: _show_one_of_many(result, as_json=as_json),
                note=write_message,
                switch=switch,
            )

    with StopSignals() as stops:
        result = stops.run(resume_all if every else resume_one)
        stops.end(result.exit_status)
    _show(result, as_json=as_json)
    sys.exit(result.exit_status)


def _show_one_of_many(result: "RunResult | FailedRun", *, as_json: bool) -> None:
    """Show how one of several runs ended; JSON is printed later, as one document for all."""
    from engine import FailedRun
    from engine.cli.messages import write_error, write_traceback
    from engine.cli.running import show_result
    from engine.cli.summary import write_end

    if isinstance(result, FailedRun):
        error = CohortSyncError(result.reason, hint=result.hint)
        error.exit_status = result.exit_status
        write_error(error)
    elif not as_json:
        show_result(result, as_json=False)
    else:
        if result.bug is not None:
            write_traceback(result.bug)
        write_end(result)


def _show(result: "RunResult | ResumedRuns | NothingToResume", *, as_json: bool) -> None:
    from engine import NothingToResume, RunResult
    from engine.cli.messages import write_message
    from engine.cli.running import show_result
    from engine.cli.streams import print_json, printing

    if isinstance(result, RunResult):
        show_result(result, as_json=as_json)
        return
    if isinstance(result, NothingToResume):
        write_message(f"nothing to resume: {result.reason}")
    if as_json:
        with printing():
            print_json(result.to_dict())
