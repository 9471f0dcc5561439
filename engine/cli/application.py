"""The command `cohortsync`: calls `engine.api`, and prints text and sets an exit status.

Heavy imports are deferred until a command needs them, so that `--help` is fast.
"""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import takewhile
from typing import Annotated, NoReturn

import typer

from engine import __version__
from engine.cli import signals
from engine.cli.check import check
from engine.cli.command import CONTEXT_SETTINGS, Command, Group
from engine.cli.configuration import init, schema
from engine.cli.demo import demo
from engine.cli.emulator import emulator
from engine.cli.memory import lack_of_memory, refuse_narrow_address_space
from engine.cli.messages import capture_library_messages, write_error, write_traceback
from engine.cli.mirror import apply, mirror, plan, rollback
from engine.cli.push import push, resume
from engine.cli.report import report
from engine.cli.runs import rejects, runs, show
from engine.cli.snapshot import snapshot
from engine.cli.source import source
from engine.cli.state import abandon, backup, plans, prune, restore
from engine.cli.status import status
from engine.cli.streams import prepare_streams, print_json, printing
from engine.cli.support import support
from engine.cli.sync import sync
from engine.cli.usage import UnreadableCommand, usage_error
from engine.cli.verbosity import with_log_format, with_verbosity
from engine.cli.why import why
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, UsageError

app = typer.Typer(
    name="cohortsync",
    help="Push large exports of user ids into MoEngage cohorts, and account for every one.",
    pretty_exceptions_enable=False,
    cls=Group,
    context_settings=CONTEXT_SETTINGS,
)
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Every night": (sync,),
    "One cohort": (push, mirror, plan, apply, rollback, resume),
    "Look": (status, report, runs, plans, show, rejects, why, support),
    "State": (abandon, prune, backup, restore),
    "Set up": (init, schema, check, emulator, demo),
}
_RUNNING = {sync, push, mirror, plan, apply, rollback, resume, demo}
"""Commands that show a run, more of it or less."""
for panel, commands in _COMMANDS.items():
    for command in commands:
        extended = with_verbosity(command) if command in _RUNNING else command
        app.command(cls=Command, rich_help_panel=panel)(with_log_format(extended))
_GROUPS = {"snapshot": (snapshot, "State"), "source": (source, "Look")}
for name, (group, panel) in _GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel=panel)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if asked:
        with printing():
            sys.stdout.write(f"cohortsync {__version__}\n")
        raise typer.Exit


@app.callback()
def _before_any_command(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    del version


def main() -> NoReturn:
    """Run the command line; report each user error as one line and an exit status."""
    # On import, numpy's BLAS starts a thread per core, which this program does not need.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's own allocator reserves 1 GB of address space; a run does not use it either.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    prepare_streams()
    capture_library_messages()
    signals.exit_at_once()
    arguments = sys.argv[1:] or ["--help"]
    try:
        with printing() if {"-h", "--help"} & {*arguments} else nullcontext():
            refuse_narrow_address_space()
            exit_status = app(args=arguments, prog_name="cohortsync", standalone_mode=False)
    except CohortSyncError as error:
        if error.exit_status is ExitStatus.UNBALANCED:
            write_traceback(error)
        fail(error)
    except UnreadableCommand as error:
        fail(usage_error(error))
    except Exception as error:  # noqa: BLE001 - a bug must not end with an exit status that means something else
        if lack := lack_of_memory(error):
            fail(lack)
        write_traceback(error)
        bug = CohortSyncError("this is a bug in cohortsync; please report the traceback above")
        bug.exit_status = ExitStatus.UNBALANCED
        fail(bug)
    finally:
        _flush()
    sys.exit(exit_status)


def _flush() -> None:
    """Flush stdout; an error does not change the exit status."""
    try:
        with printing():
            pass
    except IncompleteError as error:
        write_error(error)


def _command_named() -> str:
    """Return the command in the arguments, with its parent."""
    words = list(takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    depth = 2 if _GROUPS.keys() & {*words[:1]} else 1
    return " ".join(["cohortsync", *words[:depth]])


def fail(error: CohortSyncError) -> NoReturn:
    """Write an error to stderr, and with `--json` also to stdout as a document; exit."""
    if error.hint is None and isinstance(error, UsageError):
        error.hint = f"`{_command_named()} --help` describes the options"
    write_error(error)
    if "--json" in sys.argv:
        document = {
            "run": error.run,
            "status": "failed",
            "exit_status": int(error.exit_status),
            "reason": error.message,
            "hint": error.hint,
            "schema_version": 1,
        }
        print_json(document)
    sys.exit(error.exit_status)
