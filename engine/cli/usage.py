"""Reports command lines that cannot be parsed, with messages in this program's style."""

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from engine.errors import UsageError

UnreadableCommand: type[Exception] = typer.BadParameter.__bases__[0]
"""The error of typer for an invalid command line; typer exports no name for it."""


def usage_error(error: Any) -> UsageError:  # noqa: ANN401 - see UnreadableCommand
    """Return the error to report, with a hint to the command's `--help`."""
    context = error.ctx
    command = context.command_path if context else "cohortsync"
    hint = f"`{command} --help` lists what there is"
    message = str(error.message)
    match type(error).__name__:
        case "NoSuchOption":
            meant = sorted(error.possibilities or ())
            if meant:
                hint = f"did you mean {' or '.join(meant)}? {hint}"
            return UsageError(f"`{command}` has no option {error.option_name}", hint=hint)
        case "BadOptionUsage":
            does = "takes no value" if "not take" in message else "needs a value"
            return UsageError(f"{error.option_name} {does}", hint=hint)
        case "MissingParameter":
            return UsageError(f"`{command}` needs {_name(error.param)}", hint=hint)
        case "BadParameter" if error.param is not None:
            expected = _expected(context.command.callback, error.param.name)
            return UsageError(f"{_name(error.param)} should be {expected}", hint=hint)
    if found := re.match(r"No such command '(.*?)'\.(?: Did you mean '(.*?)')?", message):
        if found[2]:
            hint = f"did you mean `{command} {found[2]}`? {hint}"
        return UsageError(f"`{command}` has no command {found[1]}", hint=hint)
    if message.startswith("Missing command"):
        names = ", ".join(context.command.list_commands(context))
        return UsageError(f"`{command}` needs a command: {names}", hint=hint)
    if found := re.search(r"unexpected extra argument(?:s|\(s\))? \((.*)\)", message, re.DOTALL):
        return UsageError(f"`{command}` takes no further argument: {found[1]}", hint=hint)
    return UsageError(error.format_message(), hint=hint)


def _name(parameter: Any) -> str:  # noqa: ANN401 - typer's
    """Return the long name of an option, or the placeholder of an argument."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper()).removesuffix("...")


def _expected(command: Callable[..., Any], name: str) -> str:
    """Describe the values of a command's parameter, based on its annotation."""
    annotation, bounds = get_type_hints(command, include_extras=True)[name], None
    if get_origin(annotation) is Annotated:
        annotation, bounds = get_args(annotation)[:2]
    if get_origin(annotation) in {Union, UnionType, list}:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(get_args(annotation))}"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return f"one of {', '.join(annotation)}"
    noun = {int: "a whole number", float: "a number", Path: "a path"}.get(annotation, "text")
    least, most = getattr(bounds, "min", None), getattr(bounds, "max", None)
    if least is not None and most is not None:
        return f"{noun} from {least:,.15g} to {most:,.15g}"
    if least is not None:
        return f"{noun} of at least {least:,.15g}"
    return noun if most is None else f"{noun} of at most {most:,.15g}"
