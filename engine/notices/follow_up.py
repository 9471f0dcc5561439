"""What follows a complete cohort: a marker file, and a command, so that others can wait for it."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.delivery.stop import Stop, StopSwitch
from engine.errors import CohortSyncError, ExitStatus
from engine.notices.messages import changed
from engine.notices.processes import running
from engine.report.accounts import timestamp
from engine.report.sync_result import CohortResult, SyncResult
from engine.storage.files import new_file

_KEPT_VARIABLES = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
)
"""Variables that a command inherits, with those that begin with `LC_`; any other may be secret."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What follows a cohort, or a whole sync."""

    command: tuple[str, ...] = ()
    """A program and its arguments, run without a shell; empty: none."""
    seconds: float = 600.0
    """How long the command may take."""
    folder: Path = Path()
    """The folder that the command runs in."""
    marker: Path | None = None
    """The file that exists only while the cohort is complete, with the date of its export."""
    partial_is_complete: bool = False
    """Whether exit status 1 counts as complete."""

    def is_complete(self, status: ExitStatus) -> bool:
        """Return whether an exit status means that the command and the marker follow."""
        return status is ExitStatus.ACCEPTED or (
            status is ExitStatus.PARTIAL and self.partial_is_complete
        )


class FollowUpError(Exception):
    """A marker or a command failed; the text says how."""


def remove_marker(path: Path) -> None:
    """Remove a marker, if there is one; raises `FollowUpError` if that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FollowUpError(f"the marker {path} can't be removed: {error.strerror}") from None


def write_marker(path: Path, result: CohortResult, sync: str, now_utc_ns: int) -> None:
    """Write a marker, at once; others may read it. Raises `FollowUpError`."""
    content = {
        "cohort": result.cohort,
        "workspace": result.workspace,
        "sync": sync,
        "run": _run_of(result),
        "status": result.status.value,
        "exit_status": int(result.exit_status),
        "members": result.members,
        "completed_at": timestamp(now_utc_ns),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as file:
            file.write(json.dumps(content).encode() + b"\n")
            os.fchmod(file.fileno(), 0o644)
    except CohortSyncError as error:
        raise FollowUpError(f"the marker: {error.message}") from None
    except OSError as error:
        raise FollowUpError(f"the marker {path} can't be written: {error.strerror}") from None


def cohort_variables(result: CohortResult, sync: str) -> dict[str, str]:
    """Return what a cohort's command finds in its environment."""
    accounts = result.run.accounts if result.run else None
    added, removed = changed(accounts) if accounts else (0, 0)
    return {
        "COHORTSYNC_SYNC": sync,
        "COHORTSYNC_COHORT": result.cohort,
        "COHORTSYNC_COHORT_ID": result.cohort_id,
        "COHORTSYNC_COHORT_NAME": result.cohort_name,
        "COHORTSYNC_WORKSPACE": result.workspace,
        "COHORTSYNC_MODE": result.mode,
        "COHORTSYNC_STATUS": result.status.value,
        "COHORTSYNC_EXIT_STATUS": str(int(result.exit_status)),
        "COHORTSYNC_RUN": _run_of(result) or "",
        "COHORTSYNC_ADDED": str(added),
        "COHORTSYNC_REMOVED": str(removed),
        "COHORTSYNC_REJECTED": str(accounts.uids.rejected if accounts else 0),
        "COHORTSYNC_MEMBERS": "" if result.members is None else str(result.members),
    }


def sync_variables(result: SyncResult) -> dict[str, str]:
    """Return what the command of a whole sync finds in its environment."""
    return {
        "COHORTSYNC_SYNC": result.sync,
        "COHORTSYNC_EXIT_STATUS": str(int(result.exit_status)),
        "COHORTSYNC_COHORTS": " ".join(each.cohort for each in result.cohorts),
    }


def inherited_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a command inherits."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT_VARIABLES or name.startswith("LC_")
    }


async def run_command(
    follow_up: FollowUp,
    variables: Mapping[str, str],
    switch: StopSwitch,
    note: Callable[[str], None],
) -> None:
    """Run a command; raises `FollowUpError` unless it ends with exit status 0 in time.

    What it writes is dropped. It is treated as a request is: after a stop it is not begun; one that
    runs may end, because nobody knows what half of it has done, and `note` tells of the wait. It is
    ended, with all that it has started, if it takes too long, on a cancellation, and by a stop that
    cancels requests in flight.
    """
    if switch.pending is not None:
        raise FollowUpError(f"the `after` command is not begun: {switch.pending.reason}")
    variables = inherited_variables(os.environ) | dict(variables)
    try:
        async with (
            running(follow_up.command, variables, folder=follow_up.folder) as process,
            asyncio.timeout(follow_up.seconds),
        ):
            status = await _ended(process, switch, lambda: note(_awaited(follow_up)))
    except TimeoutError:
        raise FollowUpError(
            f"the `after` command took longer than {follow_up.seconds:g} s"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "an argument holds a NUL"
        raise FollowUpError(f"the `after` command can't be started: {reason}") from None
    if status:
        ended = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise FollowUpError(f"the `after` command ended with {ended}")


def _awaited(follow_up: FollowUp) -> str:
    return (
        f"waiting for the `after` command, which may take {follow_up.seconds:g} s in all; a second "
        "signal ends it"
    )


async def _ended(
    process: asyncio.subprocess.Process, switch: StopSwitch, waits: Callable[[], None]
) -> int:
    """Return the exit status of a process; raises `FollowUpError` if a stop cancels it.

    `waits` is called by a stop that does not cancel it.
    """
    waiting = asyncio.ensure_future(process.wait())

    def end(stop: Stop) -> None:
        if stop.cancels:
            waiting.cancel(stop.reason)
        else:
            waits()

    with switch.connected(end):
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.cancelled() and switch.pending is not None and switch.pending.cancels:
                reason = f"the `after` command was ended: {switch.pending.reason}"
                raise FollowUpError(reason) from None
            raise


def _run_of(result: CohortResult) -> str | None:
    return result.run.accounts.run if result.run else None
