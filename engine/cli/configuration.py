"""`cohortsync init` and `cohortsync schema`: a first config.toml, and the schema of any."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from engine.cli import signals
from engine.cli.messages import write_message
from engine.cli.streams import printing
from engine.errors import IncompleteError, UsageError


def schema() -> None:
    """Print the JSON Schema of config.toml, by which an editor completes and checks its keys."""
    import json

    from engine import config_schema

    with printing():
        sys.stdout.write(json.dumps(config_schema(), indent=2) + "\n")


def init(
    *,
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path(
        "config.toml"
    ),
    workspace_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The workspace id, from the dashboard: Settings > Account > APIs. Needed unless "
            "there is a terminal to ask on.",
        ),
    ] = None,
    data_center: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="The number in the dashboard's address: 01 to 06, 101. Needed as --workspace-id.",
        ),
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where the API key is, or will be; from the folder of the configuration. By "
            "default moengage.key.",
        ),
    ] = None,
) -> None:
    """Write a first config.toml with one example cohort; nothing is overwritten.

    On a terminal it asks for what no option says. It asks for the API key unless --key-file says
    where that is; the key is never shown.
    """
    from engine import NewConfig

    NewConfig.refuse_unusable(path)
    _refuse_without_answers(**{"--workspace-id": workspace_id, "--data-center": data_center})
    key = ""
    with _asking():
        config = NewConfig(
            workspace_id=workspace_id or _ask("Workspace id", NewConfig.read_workspace_id),
            data_center=data_center
            or _ask("Data center (01 to 06, 101)", NewConfig.read_data_center),
            key_file=key_file
            or _ask("File with the API key", NewConfig.read_key_file, "moengage.key"),
        )
        if not key_file and not config.key_path(path).exists():
            key = _ask_key(config.key_path(path), NewConfig.read_key)
    for each in config.write(path, key):
        write_message(f"wrote {each}")
    if not config.key_path(path).exists():
        write_message(f"write the API key alone into {config.key_path(path)}, with mode 0600")
    write_message(f"in version control, .gitignore should name {config.key_file} and state/")
    write_message(f"`cohortsync check --config {shlex.quote(str(path))}` tells whether it is right")


def _refuse_without_answers(**needed: str | None) -> None:
    """Raise `UsageError` if an option has no value, and there is no terminal to ask on."""
    missing = [option for option, value in needed.items() if not value]
    if missing and not _is_terminal():
        raise UsageError(
            f"`cohortsync init` needs {' and '.join(missing)}", hint="it asks only on a terminal"
        )


@contextmanager
def _asking() -> Iterator[None]:
    """Raise `IncompleteError` if a signal, or the end of the input, comes during the block."""
    try:
        with signals.raised():  # So that a terminal shows again what is typed.
            yield
    except typer.Abort:
        typer.echo(err=True)
        raise IncompleteError(
            "stopped before anything was written", hint="run the same command again"
        ) from None


def _ask(question: str, read: Callable[[str], str], default: str | None = None) -> str:
    """Ask on a terminal until `read` takes the answer; without one, return the default."""
    if not _is_terminal():
        return default or ""
    while True:
        try:
            return read(typer.prompt(question, default=default, err=True))
        except ValueError as error:
            write_message(f"this {error}")


def _ask_key(path: Path, read: Callable[[str], str]) -> str:
    """Ask for the API key until `read` takes it; return nothing if there is no answer."""
    if not _is_terminal():
        return ""
    question = f"API key, which is written to {path} (hidden; empty to write it later)"
    while True:
        answer = typer.prompt(question, default="", show_default=False, hide_input=True, err=True)
        try:
            return answer and read(answer)
        except ValueError as error:
            write_message(f"this {error}")


def _is_terminal() -> bool:
    return sys.stdin.isatty()
