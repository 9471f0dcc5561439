"""Arguments and options that several commands share.

Related options are the fields of a parameter object; `flat` makes a command of a function that
takes such objects.
"""

import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict, TypeVar, get_type_hints

import typer

from engine.errors import UsageError
from engine.model.cohort import Action, Cohort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from contextlib import AbstractAsyncContextManager

    from engine import Engine, ExportArguments, PlanArguments, PlanObservers, Reading

R = TypeVar("R")

LARGEST_COUNT = 1_000_000_000_000
"""The largest number of uids on the command line."""
LARGEST_GENERATION = 2_147_483_647
_YEAR_SECONDS = 31_536_000


def flat(command: Callable[..., R]) -> Callable[..., R]:
    """Return a command with an option for each field of the function's parameter objects."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[Parameter] = []
    for each in signature(command).parameters.values():
        hint = hints[each.name]
        if not (isinstance(hint, type) and is_dataclass(hint)):
            parameters.append(each.replace(annotation=hint, kind=Parameter.KEYWORD_ONLY))
            continue
        groups[each.name] = hint
        own = get_type_hints(hint, include_extras=True)
        parameters += [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if field.default is MISSING else field.default,
                annotation=own[field.name],
            )
            for field in fields(hint)
        ]

    @wraps(command)
    def run(**given: object) -> R:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    # typer reads this signature.
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # functions have it only if it is set
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def refuse_nan(param: typer.CallbackParam, value: float | None) -> float | None:
    """Return `value`; raise `UsageError` for NaN, which bounds do not exclude."""
    if value is not None and math.isnan(value):
        raise UsageError(f"{param.opts[0]} should be a number, not {value}")
    return value


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        max=_YEAR_SECONDS,
        callback=refuse_nan,
        help="How long to wait for another process that holds the workspace; with 0 that is exit "
        "status 75 at once.",
    ),
]
CohortIdOption = Annotated[
    str | None,
    typer.Option(
        "--cohort-id",
        metavar="ID",
        help="The cohort's id, chosen by you; always the same for one cohort. Without --cohort it "
        "is needed, and so is --cohort-name.",
    ),
]
KnownCohortIdOption = Annotated[
    str | None,
    typer.Option(
        "--cohort-id",
        metavar="ID",
        help="The cohort's id, as mirrored or pushed; needed without --cohort.",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--cohort",
        metavar="KEY",
        help="A cohort of the configuration: its table says what no option does.",
    ),
]


FirstActionOption = Annotated[
    Action, typer.Option("--first-action", help="What is sent first: removes, or adds.")
]


OnChangedOption = Annotated[
    Literal["refuse", "restart"] | None,
    typer.Option(
        help="Where an unfinished run can't go on, as its export has changed or a later run has "
        "touched the cohort: refuse, which is the default, or begin a new run."
    ),
]


@dataclass(frozen=True, slots=True)
class StateOptions:
    """The location of the ledgers; the rest of the configuration is not needed."""

    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration file; else COHORTSYNC_CONFIG, else ./config.toml.",
        ),
    ] = None
    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="FOLDER", help="State folder, instead of the configured one."
        ),
    ] = None

    def open(self) -> "AbstractAsyncContextManager[Engine]":
        """Return an engine that reads only the parts of the configuration that it needs."""
        from engine import Engine

        return Engine.open(self.config, state=self.state, lazy=True)

    def call(self, work: "Callable[[Engine], Awaitable[R]]", **opening: bool) -> R:
        """Return the result of `work` with an engine; `opening` are the arguments of `open`."""
        import asyncio

        async def run() -> R:
            async with self.open(**opening) as engine:
                return await work(engine)

        return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class ProjectOptions(StateOptions):
    """The configuration of all workspaces."""

    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="scheme://host:port of the API for each workspace; else the configured one.",
        ),
    ] = None

    def open(self) -> "AbstractAsyncContextManager[Engine]":
        """Return an engine for all workspaces; see `Engine.open`."""
        from engine import Engine

        return Engine.open(self.config, endpoint=self.endpoint, state=self.state, lazy=True)


@dataclass(frozen=True, slots=True)
class TargetOptions(StateOptions):
    """The workspace and the configuration."""

    workspace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which of the configured workspaces, if several."),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="scheme://host:port of the API; else the configured one."),
    ] = None

    def open(
        self, *, need_credentials: bool = True, lazy: bool = False
    ) -> "AbstractAsyncContextManager[Engine]":
        """Return an engine for the workspace; see `Engine.open`."""
        from engine import Engine

        return Engine.open(
            self.config,
            workspace=self.workspace,
            endpoint=self.endpoint,
            state=self.state,
            need_credentials=need_credentials,
            lazy=lazy,
        )


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """The cohort that a run changes."""

    cohort: KeyOption = None
    cohort_id: CohortIdOption = None
    cohort_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that the dashboard shows.")
    ] = None
    cohort_description: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the cohort is for.")
    ] = None

    def named(self) -> Cohort | str:
        """Return the cohort, or the key of a configured one.

        Raises `UsageError` for values that the API would refuse, for both or neither.
        """
        given = {
            "--cohort-id": self.cohort_id,
            "--cohort-name": self.cohort_name,
            "--cohort-description": self.cohort_description,
        }
        if self.cohort is not None:
            _refuse_with_key(given)
            return self.cohort
        if self.cohort_id is None and self.cohort_name is None:
            raise UsageError("no cohort is named: needs --cohort, or --cohort-id and --cohort-name")
        if self.cohort_id is None or self.cohort_name is None:
            lacking = "--cohort-id" if self.cohort_id is None else "--cohort-name"
            raise UsageError(f"without --cohort it needs {lacking}, too")
        return Cohort(self.cohort_id, self.cohort_name, self.cohort_description)


def _refuse_with_key(given: "Mapping[str, object]") -> None:
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"--cohort and {option} exclude each other",
                hint="--cohort takes a cohort as its table in the configuration has it",
            )


@dataclass(frozen=True, slots=True)
class KnownCohortOptions:
    """A cohort that was mirrored or pushed."""

    cohort: KeyOption = None
    cohort_id: KnownCohortIdOption = None

    def named(self, **further: object) -> "KnownCohort":
        """Return it as arguments of `Engine.snapshots` and others.

        Raises `UsageError` for both or neither, and for `further` options by name with a key.
        """
        if self.cohort is not None:
            _refuse_with_key({"--cohort-id": self.cohort_id, **further})
        elif self.cohort_id is None:
            raise UsageError("no cohort is named: needs --cohort or --cohort-id")
        return {"cohort_id": self.cohort_id, "cohort": self.cohort}


class KnownCohort(TypedDict):
    """The arguments that name a cohort by its id or its key."""

    cohort_id: str | None
    cohort: str | None


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """How to read files."""

    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the uids are: a column's name (with --no-header its number, from 1), or "
            "the dotted path of a field; else the only column.",
        ),
    ] = None
    format: Annotated[
        Literal["auto", "text", "csv", "tsv", "ndjson", "parquet"] | None,
        typer.Option(help="By default detected by suffix, then by content."),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first record of a csv or tsv names the columns; by default it does.",
        ),
    ] = None
    strip: Annotated[
        bool | None,
        typer.Option("--strip/--no-strip", help="Remove white space around uids; by default not."),
    ] = None

    def reading(self) -> "Reading":
        """Return the reading options, as arguments of `Engine.push`."""
        return {
            "column": self.column,
            "format": self.format,
            "header": self.header,
            "strip": self.strip,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(FormatOptions):
    """The files of a list of uids, and how to read them."""

    exports: Annotated[
        list[str],
        typer.Argument(metavar="EXPORT...", help="Files, globs, folders, URLs, or - for stdin."),
    ]


@dataclass(frozen=True, slots=True)
class ExportOptions(FormatOptions):
    """The files of an export, which a configured cohort has in its table, and how to read them."""

    exports: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPORT",
            help="Files, globs, folders, URLs, or - for stdin; with --cohort by default its own.",
        ),
    ] = None

    def names_for(self, cohort: Cohort | str) -> list[str] | None:
        """Return the files; raise `UsageError` if there are none for a cohort without a key."""
        if not self.exports and isinstance(cohort, Cohort):
            raise UsageError(
                "no export is named: needs EXPORT", hint="only a configured cohort has its own"
            )
        return self.exports or None


@dataclass(frozen=True, slots=True)
class FilteredExportOptions(ExportOptions):
    """The files of an export, and the lists of uids that are left out of it."""

    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="FILE", help="Leave the uids of this list out; repeatable."
        ),
    ] = None
    exclude_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where the uids of --exclude are, as --column."),
    ] = None

    def arguments(self) -> "ExportArguments":
        """Return the options as arguments of `Engine.push`."""
        return {
            **self.reading(),
            "exclude": self.exclude or (),
            "exclude_column": self.exclude_column,
        }


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """The guards to lift, and the reason."""

    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="GUARD[=BOUND]",
            help="Lift a guard, to a bound, for this run; needs a --reason; repeatable.",
        ),
    ] = None
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason", metavar="TEXT", help="Why --allow lifts a guard; kept in the ledger."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class MirrorOptions(GuardOptions):
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
