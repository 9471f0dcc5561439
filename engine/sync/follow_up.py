"""What follows a sync: the page of the night is written, and old state is deleted."""

import asyncio

from engine.config.loading import Project
from engine.errors import CohortSyncError
from engine.page.rendering import write_configured_page
from engine.runs.retention import prune
from engine.sync.context import SyncContext


async def follow_up(project: Project, context: SyncContext) -> None:
    """Do what the configuration asks for after each sync, once people are notified of its end.

    A failure is a warning: it does not change the result of the sync. A stop by the caller leaves
    the rest of the deletions to the next sync.
    """
    config, note, switch = project.shared, context.observers.note, context.switch
    try:
        now = context.clock.stamp().utc_ns
        path = await asyncio.to_thread(write_configured_page, config.report, config.state_dir, now)
    except Exception as error:  # noqa: BLE001 - nothing here may hide how the sync ended
        note(f"the report was not written: {described(error)}", label="warning")
    else:
        if path is not None:
            note(f"the report is in {path}")
    try:
        await prune(
            config, clock=context.clock, compacts=False, ends=lambda: switch.is_pulled_by_caller
        )
    except Exception as error:  # noqa: BLE001 - as above
        note(f"old state was not deleted: {described(error)}", label="warning")


def described(error: Exception) -> str:
    """Return a clause about an error, which names it if a bug caused it."""
    if isinstance(error, CohortSyncError):
        return error.message
    return str(error) if isinstance(error, OSError) else f"a bug, {type(error).__name__}"
