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
from typing import TYPE_CHECKING, Annotated, TypeVar, get_type_hints

import typer

from engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractAsyncContextManager

    from engine import Engine

R = TypeVar("R")

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


@dataclass(frozen=True, slots=True)
class ConfigOptions:
    """The configuration, which is read only as far as it is needed."""

    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration file; else COHORTSYNC_CONFIG, else ./config.toml.",
        ),
    ] = None

    def open(self) -> "AbstractAsyncContextManager[Engine]":
        """Return an engine that reads only the parts of the configuration that it needs."""
        from engine import Engine

        return Engine.open(self.config, lazy=True)

    def call(self, work: "Callable[[Engine], Awaitable[R]]", **opening: bool) -> R:
        """Return the result of `work` with an engine; `opening` are the arguments of `open`."""
        import asyncio

        async def run() -> R:
            async with self.open(**opening) as engine:
                return await work(engine)

        return asyncio.run(run())


@dataclass(frozen=True, slots=True)
class StateOptions(ConfigOptions):
    """The location of the ledgers; the rest of the configuration is not needed."""

    state: Annotated[
        Path | None,
        typer.Option(
            "--state", metavar="FOLDER", help="State folder, instead of the configured one."
        ),
    ] = None

    def open(self) -> "AbstractAsyncContextManager[Engine]":
        """Return an engine; see `ConfigOptions.open`."""
        from engine import Engine

        return Engine.open(self.config, state=self.state, lazy=True)


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
