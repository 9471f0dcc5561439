"""The command `cohortsync`: arguments into parts, parts into an exit status; no rule of its own.

Heavy imports wait until a command needs them: `--help` has to be quick.
"""

import json
import sys
from typing import NoReturn

import typer

from engine.cli.check import check
from engine.cli.demo import demo
from engine.cli.emulator import emulator
from engine.cli.push import push, resume
from engine.cli.runs import rejects, runs, show
from engine.errors import CohortSyncError, ExitStatus

app = typer.Typer(
    name="cohortsync",
    help="Push large exports of user ids into MoEngage cohorts, and account for every one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (push, resume, runs, show, rejects, check, emulator, demo):
    app.command()(command)


def main() -> NoReturn:
    """Run the command line; every error a user can cause becomes one line and an exit status."""
    try:
        app(standalone_mode=True)
    except CohortSyncError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything was under way\n")
        sys.exit(ExitStatus.INCOMPLETE)
    sys.exit(ExitStatus.ACCEPTED)


def fail(error: CohortSyncError) -> NoReturn:
    """Show an error on stderr, as a document on stdout too where one was asked for, and exit."""
    for line in error.message.splitlines():
        sys.stderr.write(f"error: {line}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    if "--json" in sys.argv:
        document = {
            "run": None,
            "status": "failed",
            "exit_status": int(error.exit_status),
            "reason": error.message,
            "hint": error.hint,
            "schema_version": 1,
        }
        sys.stdout.write(json.dumps(document) + "\n")
    sys.exit(error.exit_status)
