"""The command `cohortsync`: arguments into parts, parts into an exit status; no rule of its own.

Heavy imports wait until a command needs them: `--help` has to be quick.
"""

import os
import sys
import traceback
from contextlib import nullcontext
from typing import Annotated, Any, NoReturn

import typer

from engine import __version__, signals
from engine.cli.check import check
from engine.cli.demo import demo
from engine.cli.emulator import emulator
from engine.cli.memory import lack_of_memory, refuse_narrow_address_space
from engine.cli.mirror import apply, mirror, plan, rollback
from engine.cli.push import push, resume
from engine.cli.runs import rejects, runs, show
from engine.cli.snapshot import snapshot
from engine.cli.streams import print_json, printing, settle_streams
from engine.cli.text import printable
from engine.cli.why import why
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, UsageError

app = typer.Typer(
    name="cohortsync",
    help="Push large exports of user ids into MoEngage cohorts, and account for every one.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    *(push, resume, mirror, plan, apply, rollback, why),
    *(runs, show, rejects, check, emulator, demo),
):
    app.command()(command)
app.add_typer(snapshot, name="snapshot")


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - typer passes it by place
    if asked:
        with printing():
            sys.stdout.write(f"cohortsync {__version__}\n")
        raise typer.Exit


@app.callback()
def _before_any_command(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version."),
    ] = False,
) -> None:
    del version


_UnreadableCommand: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for a command line that it cannot read; it exports no name for it."""


def main() -> NoReturn:
    """Run the command line; every error a user can cause becomes one line and an exit status."""
    # numpy's BLAS starts a thread a core as it is imported, and nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's own allocator takes 1 GB of address space at once; a run does not use it either.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    settle_streams()
    signals.leave_at_once()
    arguments = sys.argv[1:] or ["--help"]
    try:
        with printing() if "--help" in arguments else nullcontext():
            refuse_narrow_address_space()
            status = app(args=arguments, standalone_mode=False)
    except CohortSyncError as error:
        if error.exit_status is ExitStatus.UNBALANCED:
            traceback.print_exc()
        fail(error)
    except _UnreadableCommand as error:
        fail(_usage_error(error))
    except Exception as error:  # noqa: BLE001 - a bug must not pass for an exit status that means another thing
        if lack := lack_of_memory(error):
            fail(lack)
        traceback.print_exc()
        bug = CohortSyncError("this is a bug in cohortsync; please report what stands above")
        bug.exit_status = ExitStatus.UNBALANCED
        fail(bug)
    finally:
        _flush()
    sys.exit(status)


def _usage_error(error: Any) -> UsageError:  # noqa: ANN401 - see _UnreadableCommand
    command = error.ctx.command_path if error.ctx else "cohortsync"
    return UsageError(error.format_message(), hint=f"`{command} --help` tells what there is")


def _flush() -> None:
    """Write what stdout still holds; how the command ended stands, read or not."""
    try:
        with printing():
            pass
    except IncompleteError as error:
        _tell(error)


def fail(error: CohortSyncError) -> NoReturn:
    """Show an error on stderr, as a document on stdout too where one was asked for, and exit."""
    _tell(error)
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


def _tell(error: CohortSyncError) -> None:
    for line in error.message.splitlines():
        sys.stderr.write(f"error: {printable(line)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")
