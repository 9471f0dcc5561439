"""How much a command shows, and the options of all commands that say so."""

from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Literal, TypeVar

import typer

from engine.errors import UsageError

R = TypeVar("R")


class Verbosity(IntEnum):
    """How much is shown of a run."""

    QUIET = -1
    """Only what needs attention."""
    NORMAL = 0
    VERBOSE = 1
    """Each failed attempt, each remark, and all accounts."""


_VERBOSITY = ContextVar("verbosity", default=Verbosity.NORMAL)


def verbosity() -> Verbosity:
    """Return the verbosity of the command that is executed."""
    return _VERBOSITY.get()


LogFormatOption = Annotated[
    Literal["logfmt", "json"],
    typer.Option("--log-format", help="The format of the records on stderr, off a terminal."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show only what needs attention.")]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show each failed attempt, and all accounts."),
]


def with_log_format(command: Callable[..., R]) -> Callable[..., R]:
    """Return a command with the option `--log-format`; the module of that name reads it."""

    @wraps(command)
    def run(*, log_format: str, **given: object) -> R:
        del log_format
        return command(**given)

    return _with_options(run, log_format=(LogFormatOption, "logfmt"))


def with_verbosity(command: Callable[..., R]) -> Callable[..., R]:
    """Return a command with the options `--quiet` and `--verbose`."""

    @wraps(command)
    def run(*, quiet: bool, verbose: bool, **given: object) -> R:
        if quiet and verbose:
            raise UsageError("--quiet and --verbose exclude each other")
        token = _VERBOSITY.set(Verbosity(verbose - quiet))
        try:
            return command(**given)
        finally:
            _VERBOSITY.reset(token)

    return _with_options(run, quiet=(QuietOption, False), verbose=(VerboseOption, False))


def _with_options(run: Callable[..., R], **options: tuple[object, object]) -> Callable[..., R]:
    """Return a function that wraps a command, with the command's options and more after them."""
    own = signature(run, eval_str=True)
    added = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    parameters = [*own.parameters.values(), *added]
    # typer reads this signature.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined] # functions have it only if it is set
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
