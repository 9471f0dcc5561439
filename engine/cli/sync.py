"""`cohortsync sync`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import JsonOption, ProjectOptions, WaitOption, flat

if TYPE_CHECKING:
    from engine import StopSwitch, SyncResult
    from engine.cli.sync_view import SyncView


@flat
def sync(
    cohorts: Annotated[
        list[str] | None,
        typer.Argument(metavar="COHORT", help="Keys of configured cohorts; else all enabled."),
    ] = None,
    *,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Only cohorts with this tag; repeatable."),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only cohorts whose last sync did not end with 0.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan every cohort, and send nothing.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(metavar="HH:MM", help="Stop at this time of day; the next sync continues."),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1_000_000_000, help="Stop after so many requests."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COHORT:GUARD[=BOUND]",
            help="Lift a guard of one cohort, to a bound; needs a --reason; repeatable.",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why --allow lifts a guard; it is kept.")
    ] = None,
    wait: WaitOption = 0.0,
    where: ProjectOptions,
    as_json: JsonOption = False,
) -> None:
    """Sync all configured cohorts: plan each, send what changed, and report on all of them.

    The exit status is the worst of the cohorts, in the order 70, 3, 2, 75, 4, 1, 0. After 75, the
    same command continues with what is left.
    """
    from engine.cli.running import StopSignals
    from engine.cli.sync_summary import print_sync
    from engine.cli.sync_view import ticking

    async def run(switch: "StopSwitch") -> "SyncResult":
        async with where.open() as engine:
            view = _view()
            for note in engine.project.notes:
                view.note(note, label="note")
            with view:
                async with ticking(view):
                    return await engine.sync(
                        cohorts or (),
                        tags=tag or (),
                        failed=failed,
                        dry_run=dry_run,
                        until=until,
                        max_requests=max_requests,
                        allow=allow or (),
                        reason=reason,
                        wait_seconds=wait,
                        observers=view.observers(switch),
                    )

    with StopSignals() as signals:
        result = signals.run(run)
        signals.end(result.exit_status)
    print_sync(result, as_json=as_json)
    sys.exit(result.exit_status)


def _view() -> "SyncView":
    """Return the view for stderr: live lines on a terminal, otherwise records."""
    if sys.stderr.isatty():
        from engine.cli.sync_terminal import TerminalSyncView

        return TerminalSyncView()
    from engine.cli.sync_log import LogSyncView

    return LogSyncView()
