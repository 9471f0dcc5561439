"""`cohortsync init` and `cohortsync schema`: a first config.toml, and the schema of any."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.messages import write_message
from engine.cli.streams import printing
from engine.errors import UsageError


def schema() -> None:
    """Print the JSON Schema of config.toml, by which an editor completes and checks its keys."""
    import json

    from engine import config_schema

    with printing():
        sys.stdout.write(json.dumps(config_schema(), indent=2) + "\n")


def init(
    *,
    path: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="The file to write; by default ./config.toml.")
    ] = Path("config.toml"),
    workspace_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The workspace id, from the dashboard: Settings > Account > APIs."
        ),
    ] = None,
    data_center: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER", help="The number in the dashboard's address: 01 to 06, 101."
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

    On a terminal it asks for what no option says; the API key is never shown.
    """
    from engine import NewConfig

    NewConfig.refuse_existing(path)
    _refuse_without_answers(**{"--workspace-id": workspace_id, "--data-center": data_center})
    try:
        config = NewConfig(
            workspace_id=workspace_id or _ask("Workspace id"),
            data_center=data_center or _ask("Data center (01 to 06, 101)"),
            key_file=key_file or _ask("File with the API key", "moengage.key"),
        )
        key = _ask_key(config.key_path(path))
    except typer.Abort:
        raise UsageError("stopped before anything was written") from None
    for each in config.write(path, key):
        write_message(f"wrote {each}")
    write_message(f"`cohortsync check --config {path}` tells whether it is right")


def _refuse_without_answers(**needed: str | None) -> None:
    """Raise `UsageError` if an option has no value, and there is no terminal to ask on."""
    missing = [option for option, value in needed.items() if not value]
    if missing and not _is_terminal():
        raise UsageError(
            f"`cohortsync init` needs {' and '.join(missing)}", hint="it asks only on a terminal"
        )


def _ask(question: str, default: str | None = None) -> str:
    """Ask a question on a terminal; without one, return the default."""
    if not _is_terminal():
        return default or ""
    answer: str = typer.prompt(question, default=default, err=True)
    return answer


def _ask_key(path: Path) -> str:
    """Ask for the API key if its file does not exist; return nothing if there is no answer."""
    if path.exists() or not _is_terminal():
        return ""
    question = f"API key, which is written to {path} (hidden; empty to write it later)"
    answer: str = typer.prompt(question, default="", show_default=False, hide_input=True, err=True)
    return answer


def _is_terminal() -> bool:
    return sys.stdin.isatty()
