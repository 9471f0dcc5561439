"""`cohortsync mirror`, `cohortsync plan` and `cohortsync apply`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from engine.errors import EmptyExportError, ExitStatus, GuardError, UsageError

if TYPE_CHECKING:
    from engine.cli.view import View
    from engine.delivery.events import Event
    from engine.planning import MirrorRequest

FirstOption = Annotated[
    Action, typer.Option("--first-action", help="What is sent first: removes, or adds.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="GUARD[=BOUND]", help="Lift a guard, to a bound, for this run."
    ),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why a guard is lifted; kept in the ledger.")
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
    as_json: JsonOption = False,
) -> None:
    """Make a cohort equal to an export, by sending only what changed since the last time.

    Guards look at the plan before anything is sent; exit status 4 says that one of them blocks.
    """
    cohort = Cohort(cohort_id, cohort_name, cohort_description)
    reading = _Reading(exports, column, format_name, not no_header, strip)
    permits = _Permits(first_action, allow or [], reason, assume_empty, trust, wait)
    place = (config, endpoint, state)
    sys.exit(_carry_out(reading, cohort, permits, place, sends=not dry_run, as_json=as_json))


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
    sys.exit(_carry_out(reading, cohort, permits, place, sends=False, as_json=as_json))


def apply(
    plan: Annotated[str, typer.Argument(help="A plan's name, as `plan` has told it.")],
    first: Annotated[
        int | None,
        typer.Option("--first", min=1, help="Send so many uids, then stop: a canary."),
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    state: StateOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Send exactly what a plan says, unless the snapshot has moved since."""
    from engine.cli.running import run_shown, tell
    from engine.cli.summary import print_result
    from engine.cli.view import make_view
    from engine.config import load
    from engine.mirror import apply as apply_plan

    settings = load(config, endpoint=endpoint, state=state)
    view = make_view(settings.pacing, lambda: None)
    tell(view, *settings.notes)
    result = run_shown(
        view, lambda **parts: apply_plan(plan, settings, first=first, wait_seconds=wait, **parts)
    )
    print_result(result, as_json=as_json)
    sys.exit(result.exit_status)


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
    assume_empty: bool
    trust: int | None
    wait: float


_Place = tuple[Path | None, str | None, Path | None]
"""Configuration file, endpoint and state folder, as the flags name them."""


def _carry_out(
    reading: _Reading,
    cohort: Cohort,
    permits: _Permits,
    place: _Place,
    *,
    sends: bool,
    as_json: bool,
) -> ExitStatus:
    from engine.cli.running import run_shown, tell
    from engine.cli.summary import print_result
    from engine.cli.view import make_view
    from engine.config import load
    from engine.mirror import mirror as mirror_export

    config, endpoint, state = place
    settings = load(config, endpoint=endpoint, state=state, need_credentials=sends)
    request, notes = _request(reading, cohort, permits)
    planned: dict[str, Any] = {}
    share = _Share()
    view = make_view(settings.pacing, share.read)
    tell(view, *settings.notes, *notes, cohort.warning)

    def hear(forecast: dict[str, Any]) -> None:
        planned.update(forecast)
        share.whole = forecast["add"] + forecast["remove"]

    result = run_shown(
        view,
        lambda **parts: mirror_export(
            request, settings, sends=sends, planned=hear, **share.counting(parts, view)
        ),
    )
    print_result(result, as_json=as_json, plan=None if sends else planned)
    return result.exit_status


def _request(
    reading: _Reading, cohort: Cohort, permits: _Permits
) -> "tuple[MirrorRequest, tuple[str, ...]]":
    from engine.plan.guards import Allowance
    from engine.planning import MirrorRequest
    from engine.source import ReadingOptions, open_source

    if permits.assume_empty and permits.trust is not None:
        raise UsageError("--assume-empty and --trust exclude each other")
    allowances = [Allowance.parse(text) for text in permits.allow]
    if allowances and not (permits.reason or "").strip():
        raise UsageError("--allow wants a --reason", hint='--reason "why"; it is kept')
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
    request = MirrorRequest(
        source=source,
        exports=reading.exports,
        reading=asdict(options),
        cohort=cohort,
        exported_utc_ns=source.written_utc_ns,
        first_action=permits.first_action,
        allowances=allowances,
        reason=permits.reason,
        assume_empty=permits.assume_empty,
        trust=permits.trust,
        wait_seconds=permits.wait,
    )
    return request, source.notes


class _Share:
    """How much of a plan has been cut into batches, for the time left."""

    def __init__(self) -> None:
        self.whole: int | None = None
        self._cut = 0

    def read(self) -> float | None:
        """Return the share, from 0 to 1; None before there is a plan."""
        return self._cut / self.whole if self.whole else None

    def counting(self, parts: dict[str, Any], view: "View") -> dict[str, Any]:
        """Return `parts` with an observer that counts as well."""
        from engine.delivery.events import Planned

        def observe(event: "Event") -> None:
            if isinstance(event, Planned):
                self._cut += event.uid_count
            view.observe(event)

        return parts | {"observe": observe}
