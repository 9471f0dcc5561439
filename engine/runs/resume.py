"""Resumes one unfinished push, or all of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus, SourceError, UsageError
from engine.ledger.locks import until_free
from engine.ledger.run_records import StoredRequest
from engine.model.cohort import Action, Cohort, CohortKey
from engine.report.history import find_unfinished, unfinished_runs
from engine.report.result import FailedRun, NothingToResume, ResumedRuns, RunResult
from engine.runs.arguments import Note, Observers, no_note
from engine.runs.context import RunObservers
from engine.runs.exports import open_push
from engine.runs.push import PushRequest, key_of, push
from engine.runs.session import Waiting, WorkspaceSession

Follow = Callable[[str], AbstractContextManager[Observers]]
"""Receives a run's name and returns its observers; the block lasts as long as the run."""


async def resume(
    session: WorkspaceSession,
    run: str | None,
    *,
    restart_if_changed: bool = False,
    wait_seconds: float = 0.0,
    observers: Observers,
) -> RunResult | NothingToResume:
    """Resume run `run`, or the latest unfinished one of the workspace.

    Raises `UsageError` for a run that is unknown, has ended, or can be resumed only by its own
    command, and raises as `push` does.
    """
    config = session.config
    note, switch = observers.get("note", no_note), observers.get("switch", session.switch)
    found = await _find(config, run, wait_seconds, note, switch)
    if isinstance(found, NothingToResume):
        return found
    request = await _request_of(
        found, config, note, switch, restart_if_changed=restart_if_changed, wait=wait_seconds
    )
    others = [each.name for each in unfinished_runs(config.state_dir, _target(config))]
    if others := [name for name in others if name != found.name]:
        note(
            f"also unfinished: {', '.join(others)}; `cohortsync resume --all` goes on with each",
            label="note",
        )
    return await push(request, session, RunObservers(**observers))


async def resume_all(  # noqa: PLR0913 - the runs, the options and the observers
    session: WorkspaceSession,
    *,
    restart_if_changed: bool = False,
    wait_seconds: float = 0.0,
    note: Note,
    switch: StopSwitch,
    follow: Follow,
    ended: Callable[[RunResult | FailedRun], None] = lambda _: None,
) -> ResumedRuns | NothingToResume:
    """Resume each unfinished push of the workspace, the earliest first.

    After a failed run the next is still resumed; after a stop it is not. `ended` receives the
    result of each run that was tried.
    """
    config = session.config
    nothing = await _find(config, None, wait_seconds, note, switch)
    if isinstance(nothing, NothingToResume):
        return nothing
    results: list[RunResult | FailedRun] = []

    async def resume_next(run: StoredRequest) -> RunResult | FailedRun:
        try:
            with follow(run.name) as observers:
                request = await _request_of(
                    run,
                    config,
                    observers.get("note", no_note),
                    switch,
                    restart_if_changed=restart_if_changed,
                    wait=wait_seconds,
                )
                observers["switch"] = switch
                return await push(request, session, RunObservers(**observers))
        except CohortSyncError as error:
            reason = f"run {run.name}: {error.message}"
            return FailedRun(run.name, reason, error.exit_status, error.hint)

    for run in unfinished_runs(config.state_dir, _target(config)):
        if switch.is_pulled:
            untried = "not gone on with: a signal came"
            results.append(FailedRun(run.name, untried, ExitStatus.INCOMPLETE))
            continue
        results.append(await resume_next(run))
        ended(results[-1])
    return ResumedRuns(results)


def _target(config: Config) -> tuple[str, str, str]:
    workspace = config.workspace
    return config.place.endpoint, workspace.id, workspace.partner


async def _find(
    config: Config, run: str | None, wait_seconds: float, note: Note, switch: StopSwitch
) -> StoredRequest | NothingToResume:
    """Find the run to resume; wait for a process that works on the ledger, then find it again."""
    target = _target(config)
    found = find_unfinished(config.state_dir, run, target)
    if found is not None and found.target == target:
        key = CohortKey(found.partner, found.cohort_id)
        waiting = Waiting(wait_seconds, switch, note)
        if await until_free(config.place.folder, key, waiting.patience):
            # The other process may have finished the run: then it must not begin again.
            found = find_unfinished(config.state_dir, run, target)
    if found is not None:
        return found
    if (other := find_unfinished(config.state_dir, None)) is None:
        return NothingToResume("no run is left to go on with")
    return NothingToResume(
        f"no run for {' / '.join(target)} is left to go on with; run {other.name} belongs to "
        f"{' / '.join(other.target)}"
    )


async def _request_of(  # noqa: PLR0913 - the run, the place and the options
    found: StoredRequest,
    config: Config,
    note: Note,
    switch: StopSwitch,
    *,
    restart_if_changed: bool,
    wait: float,
) -> PushRequest:
    """Return the request that resumes a run; raises an error if it cannot be resumed."""
    found.spec.require_resumable(found.name)
    _refuse_other_target(found, config)
    cohort = Cohort(found.cohort_id, found.cohort_name, found.cohort_description)
    try:
        source, spec = await open_push(
            found.spec, note=note, switch=switch, rereadable=restart_if_changed
        )
    except SourceError as error:
        if error.exit_status is ExitStatus.USAGE:
            error.hint = f"{_WHERE_HINT}; {error.hint}" if error.hint else _WHERE_HINT
        raise
    if cohort.warning:
        note(cohort.warning, label="note")
    request = PushRequest(
        source=source,
        spec=spec,
        cohort=cohort,
        action=Action(found.action),
        restart_if_changed=restart_if_changed,
        wait_seconds=wait,
    )
    if key_of(request, config).identity != found.identity:
        raise UsageError(
            f"run {found.name} began with other files than "
            f"{', '.join(found.spec.names)} stands for here and now",
            hint=_WHERE_HINT,
        )
    return request


def _refuse_other_target(found: StoredRequest, config: Config) -> None:
    """Raise `UsageError` for a run that was begun with another configuration."""
    target = _target(config)
    if target != found.target:
        raise UsageError(
            f"run {found.name} belongs to {' / '.join(found.target)}, and the configuration names "
            f"{' / '.join(target)}",
            hint="pass the configuration that the run was begun with, by --config",
        )


_WHERE_HINT = "resume it in the folder that it was begun in, with the same files in place"
