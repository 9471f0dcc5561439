"""`cohortsync mirror`, `plan`, `apply` and `rollback`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.options import (
    LARGEST_COUNT,
    LARGEST_GENERATION,
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
    KnownCohortIdOption,
    NoHeaderOption,
    ReasonOption,
    StateOption,
    StripOption,
    WaitOption,
    require_reason,
)
from engine.errors import EmptyExportError, ExitStatus, GuardError, UsageError
from engine.model.cohort import Action, Cohort, check_id

if TYPE_CHECKING:
    from engine.cli.running import Start
    from engine.config.loading import Config
    from engine.runs.planner import MirrorRequest
    from engine.source.block import Source

FirstOption = Annotated[
    Action, typer.Option("--first-action", help="What is sent first: removes, or adds.")
]
AssumeEmptyOption = Annotated[
    bool,
    typer.Option(
        "--assume-empty", help="Forget what was acknowledged: add everything, remove nothing."
    ),
]
TrustOption = Annotated[
    int | None,
    typer.Option(
        "--trust",
        metavar="GENERATION",
        min=1,
        max=LARGEST_GENERATION,
        help="Go on from this snapshot; what was touched since is sent again.",
    ),
]


def mirror(
    exports: ExportsArgument,
    cohort_id: CohortIdOption,
    cohort_name: CohortNameOption,
    cohort_description: CohortDescriptionOption = None,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    first_action: FirstOption = Action.REMOVE,
    allow: AllowOption = None,
    reason: ReasonOption = None,
    assume_empty: AssumeEmptyOption = False,
    trust: TrustOption = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    wait: WaitOption = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, and send nothing: what `plan` does.")
    ] = False,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Send nothing, ever, and move a snapshot in the shadow as if all had been sent.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a cohort equal to an export, by sending only what changed since the last time.

    Guards look at the plan before anything is sent; exit status 4 says that one of them blocks.
    """
    if dry_run and shadow:
        raise UsageError("--dry-run and --shadow exclude each other")
    cohort = Cohort(cohort_id, cohort_name, cohort_description)
    reading = _Reading(exports, column, format_name, not no_header, strip)
    permits = _Permits(first_action, allow or [], reason, assume_empty, trust, wait, shadow)
    place = (config, endpoint, state)
    sends = not (dry_run or shadow)
    sys.exit(_mirror(reading, cohort, permits, place, sends=sends, as_json=as_json))


def plan(
    exports: ExportsArgument,
    cohort_id: CohortIdOption,
    cohort_name: CohortNameOption,
    cohort_description: CohortDescriptionOption = None,
    column: ColumnOption = None,
    format_name: FormatOption = FormatName.AUTO,
    no_header: NoHeaderOption = False,
    strip: StripOption = False,
    first_action: FirstOption = Action.REMOVE,
    allow: AllowOption = None,
    reason: ReasonOption = None,
    assume_empty: AssumeEmptyOption = False,
    trust: TrustOption = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a mirror would send, and keep that plan for `apply`; nothing is sent."""
    cohort = Cohort(cohort_id, cohort_name, cohort_description)
    reading = _Reading(exports, column, format_name, not no_header, strip)
    permits = _Permits(first_action, allow or [], reason, assume_empty, trust, wait)
    place = (config, endpoint, state)
    sys.exit(_mirror(reading, cohort, permits, place, sends=False, as_json=as_json))


def rollback(
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
    first_action: FirstOption = Action.REMOVE,
    allow: AllowOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    wait: WaitOption = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, for `apply`, and send nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a cohort what it was at an earlier generation, guards and all."""
    from engine.runs.mirror import RollbackRequest
    from engine.runs.mirror import rollback as roll_back

    check_id(cohort_id)
    permits = _Permits(first_action, allow or [], reason, wait=wait)
    permits.check()
    settings = _load((config, endpoint, state), sends=not dry_run)

    def request(source: "Source", cohort: Cohort) -> "MirrorRequest":
        return permits.request(source, [f"generation {to}"], {}, cohort)

    asked = RollbackRequest(cohort_id, to, request, cohort_name, wait)
    lacking = _lacking((config, endpoint, state), permits, sends=not dry_run)
    sys.exit(
        _carry_out(
            lambda session, observers: roll_back(asked, session, observers, sends=not dry_run),
            settings,
            (lacking,),
            sends=not dry_run,
            as_json=as_json,
        )
    )


def apply(
    plan: Annotated[str, typer.Argument(help="A plan's name, as `plan` has told it.")],
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
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Send exactly what a plan says, unless the snapshot has moved since."""
    from engine.runs.mirror import apply as apply_plan

    settings = _load((config, endpoint, state), sends=True)

    sys.exit(
        _carry_out(
            lambda session, observers: apply_plan(
                plan, session, observers, first=first, wait_seconds=wait
            ),
            settings,
            (),
            sends=True,
            as_json=as_json,
            is_new=False,
            first=first,
        )
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """The exports, and how they are read."""

    exports: list[str]
    column: str | None
    format_name: FormatName
    header: bool
    strip: bool


@dataclass(frozen=True, slots=True)
class _Permits:
    """How a mirror goes about it, and what it is allowed."""

    first_action: Action
    allow: list[str]
    reason: str | None
    assume_empty: bool = False
    trust: int | None = None
    wait: float = 0.0
    shadow: bool = False

    def check(self) -> None:
        """Raise `UsageError` for flags that exclude each other, or lack one."""
        if self.assume_empty and self.trust is not None:
            raise UsageError("--assume-empty and --trust exclude each other")
        require_reason(self.allow, self.reason)

    def request(
        self,
        source: "Source",
        exports: list[str],
        reading: dict[str, Any],
        cohort: Cohort,
    ) -> "MirrorRequest":
        """Return what is asked for."""
        from engine.planning.allowances import Allowance
        from engine.runs.planner import MirrorRequest

        return MirrorRequest(
            source=source,
            exports=exports,
            reading=reading,
            cohort=cohort,
            first_action=self.first_action,
            allowances=Allowance.parse_all(self.allow),
            reason=self.reason,
            assume_empty=self.assume_empty,
            trust=self.trust,
            is_shadow=self.shadow,
            wait_seconds=self.wait,
        )


_Place = tuple[Path | None, str | None, Path | None]
"""Configuration file, endpoint and state folder, as the flags name them."""


def _load(place: _Place, *, sends: bool) -> "Config":
    from engine.config.loading import load

    config, endpoint, state = place
    return load(config, endpoint=endpoint, state=state, need_credentials=sends)


def _lacking(place: _Place, permits: _Permits, *, sends: bool) -> str | None:
    """Say what a plan may do without, and the run that it prepares may not."""
    from engine.config.loading import credentials_problem

    return None if sends or permits.shadow else credentials_problem(place[0])


def _mirror(
    reading: _Reading,
    cohort: Cohort,
    permits: _Permits,
    place: _Place,
    *,
    sends: bool,
    as_json: bool,
) -> ExitStatus:
    from engine.runs.mirror import mirror as mirror_export
    from engine.source import ReadingOptions, open_source

    permits.check()
    settings = _load(place, sends=sends)
    options = ReadingOptions(
        column=reading.column,
        format=reading.format_name.value,
        header=reading.header,
        strip=reading.strip,
    )
    try:
        source = open_source(reading.exports, options)
    except EmptyExportError as error:
        raise GuardError(
            f"empty: {error.message}", hint="an empty export would empty the cohort"
        ) from error
    request = permits.request(source, reading.exports, asdict(options), cohort)
    return _carry_out(
        lambda session, observers: mirror_export(request, session, observers, sends=sends),
        settings,
        (*source.notes, cohort.warning, _lacking(place, permits, sends=sends)),
        sends=sends,
        as_json=as_json,
    )


def _carry_out(
    start: "Start",
    settings: "Config",
    notes: tuple[str | None, ...],
    *,
    sends: bool,
    as_json: bool,
    is_new: bool = True,
    first: int | None = None,
) -> ExitStatus:
    """Run, show it on stderr, and print the books, with the plan where nothing was sent.

    `is_new` is False for a plan made earlier, of which the `first` uids are sent, or all.
    """
    from engine.cli.running import run_shown, show_notes
    from engine.cli.summary import print_result
    from engine.cli.view import make_view

    planned: dict[str, Any] = {}
    view = make_view(settings.pacing, lambda: None)
    show_notes(view, *settings.notes, *notes)

    def hear(forecast: dict[str, Any]) -> None:
        planned.update(forecast)
        for note in forecast["notes"]:
            view.note(note, label="warning")
        view.expect(
            forecast["add"] + forecast["remove"] + forecast["resend"],
            first=first,
            held=forecast["held"] if is_new else 0,
            settle_seconds=forecast["settle_seconds"],
        )

    result = run_shown(view, settings, start, planned=hear)
    print_result(result, as_json=as_json, plan=None if sends else planned)
    return result.exit_status
