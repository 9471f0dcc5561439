"""`cohortsync mirror`, `plan`, `apply` and `rollback`."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import (
    LARGEST_COUNT,
    LARGEST_GENERATION,
    CohortOptions,
    FilteredExportOptions,
    FirstActionOption,
    GuardOptions,
    JsonOption,
    KnownCohortIdOption,
    MirrorOptions,
    TargetOptions,
    WaitOption,
    flat,
)
from engine.model.cohort import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine import Engine, Observers, PlanObservers, RunResult
    from engine.cli.run_view import View

    Start = Callable[[Engine, PlanObservers], Awaitable[RunResult]]


@flat
def mirror(
    *,
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: MirrorOptions,
    target: TargetOptions,
    wait: WaitOption = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, and send nothing: what `plan` does.")
    ] = False,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Send nothing, ever, and update a shadow snapshot as if all had been sent.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a cohort equal to an export, by sending only what changed since the last time.

    Guards check the plan before anything is sent; exit status 4 means that one of them blocks.
    """
    start = _mirroring(cohort, export, options, wait, dry_run=dry_run, shadow=shadow)
    _carry_out(target, start, sends=not (dry_run or shadow), as_json=as_json)


@flat
def plan(
    *,
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: MirrorOptions,
    target: TargetOptions,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Show what a mirror would send, and keep that plan for `apply`; nothing is sent."""
    start = _mirroring(cohort, export, options, wait, dry_run=True)
    _carry_out(target, start, sends=False, as_json=as_json)


def _mirroring(
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: MirrorOptions,
    wait: float,
    *,
    dry_run: bool,
    shadow: bool = False,
) -> "Start":
    """Return a function that starts a mirror, or plans one."""
    named = cohort.cohort()

    def start(engine: "Engine", observers: "PlanObservers") -> "Awaitable[RunResult]":
        return engine.mirror(
            export.exports,
            named,
            dry_run=dry_run,
            shadow=shadow,
            **options.arguments(export, wait, observers),
        )

    return start


@flat
def rollback(
    *,
    cohort_id: KnownCohortIdOption,
    to: Annotated[
        int,
        typer.Option(
            "--to",
            metavar="GENERATION",
            min=1,
            max=LARGEST_GENERATION,
            help="As `cohortsync snapshot list` numbers them.",
        ),
    ],
    cohort_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="By default the name that it was mirrored by last."),
    ] = None,
    first_action: FirstActionOption = Action.REMOVE,
    guards: GuardOptions,
    target: TargetOptions,
    wait: WaitOption = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, for `apply`, and send nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Restore a cohort to an earlier generation; guards check the plan."""

    async def start(engine: "Engine", observers: "PlanObservers") -> "RunResult":
        return await engine.rollback(
            cohort_id,
            to,
            cohort_name=cohort_name,
            first_action=first_action,
            allow=guards.allow or (),
            reason=guards.reason,
            wait_seconds=wait,
            dry_run=dry_run,
            **observers,
        )

    _carry_out(target, start, sends=not dry_run, as_json=as_json)


@flat
def apply(
    *,
    plan: Annotated[
        str,
        typer.Argument(help="A plan's name, as `plans` lists it, the beginning of one, or latest."),
    ],
    first: Annotated[
        int | None,
        typer.Option(
            "--first",
            metavar="N",
            min=1,
            max=LARGEST_COUNT,
            help="Send so many of the uids that are left, then stop: a canary.",
        ),
    ] = None,
    target: TargetOptions,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Send exactly what a plan contains, unless the snapshot has changed since."""

    async def start(engine: "Engine", observers: "PlanObservers") -> "RunResult":
        return await engine.apply(plan, first=first, wait_seconds=wait, **observers)

    _carry_out(target, start, sends=True, as_json=as_json, is_new=False, first=first)


def _carry_out(
    target: TargetOptions,
    start: "Start",
    *,
    sends: bool,
    as_json: bool,
    is_new: bool = True,
    first: int | None = None,
) -> None:
    """Run, show progress on stderr, print the accounts, and exit with the run's status.

    `is_new` is False for an existing plan. Of its remaining uids, the `first` are sent, or all if
    `first` is None.
    """
    from engine.cli.running import carry_out

    async def run(engine: "Engine", view: "View", observers: "Observers") -> "RunResult":
        def planned(forecast: dict[str, Any]) -> None:
            for note in forecast["notes"]:
                view.note(note, label="warning")
            view.expect(
                forecast["add"] + forecast["remove"] + forecast["resend"],
                first=first,
                held=forecast["held"] if is_new else 0,
                settle_seconds=forecast["settle_seconds"],
            )

        return await start(engine, {**observers, "planned": planned})

    sys.exit(carry_out(target.open(need_credentials=sends), run, as_json=as_json))
