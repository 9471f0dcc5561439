"""`cohortsync mirror`, `plan`, `apply` and `rollback`."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.cohort_options import CohortOptions, KnownCohortOptions
from engine.cli.export_options import FilteredExportOptions
from engine.cli.options import (
    LARGEST_GENERATION,
    GuardOptions,
    JsonOption,
    TargetOptions,
    WaitOption,
    flat,
)
from engine.model.cohort import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from engine import Engine, Observers, PlanArguments, PlanObservers, RunResult
    from engine.cli.run_view import View

    Start = Callable[[Engine, PlanObservers], Awaitable[RunResult]]

_LARGEST_COUNT = 1_000_000_000_000
"""The largest number of uids on the command line."""

FirstActionOption = Annotated[
    Action, typer.Option("--first-action", help="What is sent first: removes, or adds.")
]


@dataclass(frozen=True, slots=True)
class PlanningOptions(GuardOptions):
    """Options for planning a mirror."""

    first_action: FirstActionOption = Action.REMOVE
    assume_empty: Annotated[
        bool,
        typer.Option(
            "--assume-empty", help="Ignore what was acknowledged: add everything, remove nothing."
        ),
    ] = False
    trust: Annotated[
        int | None,
        typer.Option(
            "--trust",
            metavar="GENERATION",
            min=1,
            max=LARGEST_GENERATION,
            help="Start from this snapshot; what was changed since is sent again.",
        ),
    ] = None

    def arguments(
        self, export: FilteredExportOptions, wait: float, observers: "PlanObservers"
    ) -> "PlanArguments":
        """Return these and the other options as arguments of `Engine.plan` and `Engine.mirror`."""
        return {
            **export.arguments(),
            "first_action": self.first_action,
            "allow": self.allow or (),
            "reason": self.reason,
            "assume_empty": self.assume_empty,
            "trust": self.trust,
            "wait_seconds": wait,
            **observers,
        }


@flat
def mirror(
    *,
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: PlanningOptions,
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
    sends = not (dry_run or shadow)
    _carry_out(target, start, sends=sends, as_json=as_json, cohort=cohort.cohort)


@flat
def plan(
    *,
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: PlanningOptions,
    target: TargetOptions,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Show what a mirror would send, and keep that plan for `apply`; nothing is sent."""
    start = _mirroring(cohort, export, options, wait, dry_run=True)
    _carry_out(target, start, sends=False, as_json=as_json, cohort=cohort.cohort)


def _mirroring(
    cohort: CohortOptions,
    export: FilteredExportOptions,
    options: PlanningOptions,
    wait: float,
    *,
    dry_run: bool,
    shadow: bool = False,
) -> "Start":
    """Return a function that starts a mirror, or plans one."""
    named = cohort.named()
    exports = export.names_for(named)

    def start(engine: "Engine", observers: "PlanObservers") -> "Awaitable[RunResult]":
        return engine.mirror(
            exports,
            named,
            dry_run=dry_run,
            shadow=shadow,
            **options.arguments(export, wait, observers),
        )

    return start


@flat
def rollback(
    *,
    cohort: KnownCohortOptions,
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
    named = cohort.named(**{"--cohort-name": cohort_name})

    async def start(engine: "Engine", observers: "PlanObservers") -> "RunResult":
        return await engine.rollback(
            named["cohort_id"],
            to,
            cohort=named["cohort"],
            cohort_name=cohort_name,
            first_action=first_action,
            allow=guards.allow or (),
            reason=guards.reason,
            wait_seconds=wait,
            dry_run=dry_run,
            **observers,
        )

    _carry_out(target, start, sends=not dry_run, as_json=as_json, cohort=cohort.cohort)


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
            max=_LARGEST_COUNT,
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
    cohort: str | None = None,
    is_new: bool = True,
    first: int | None = None,
) -> None:
    """Run, show progress on stderr, print the accounts, and exit with the run's status.

    `cohort` is the key of a configured cohort, whose workspace is used.
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

    opening = target.open(need_credentials=sends)
    sys.exit(carry_out(opening, run, as_json=as_json, cohort=cohort))
