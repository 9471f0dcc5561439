"""Resumes one unfinished push, or all of them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus, SourceError, UsageError
from engine.ledger.run_records import StoredRequest
from engine.model.cohort import Action, Cohort
from engine.report.history import find_unfinished, unfinished_runs
from engine.report.run_results import FailedRun, NothingToResume, ResumedRuns, RunResult
from engine.runs.arguments import Note, Observers, no_note
from engine.runs.context import RunObservers
from engine.runs.exports import open_push
from engine.runs.push import push
from engine.runs.push_admission import PushRequest, RunEndedError, key_of
from engine.runs.queries import Queries
from engine.runs.session import WorkspaceSession

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
    """Resume run `run`, or the latest unfinished one that the session does not work on.

    Another caller or process may end the run before this call holds its cohort: then the next one
    is resumed, unless `run` names the run. Raises `UsageError` for a run that is unknown, has
    ended, or can be resumed only by its own command, and raises as `push` does.
    """
    config = session.config
    note, switch = observers.get("note", no_note), observers.get("switch", session.switch)
    tried = set[str]()
    while True:
        found = await _find(session, run)
        if isinstance(found, NothingToResume):
            return found
        request = await _request_of(
            found, config, note, switch, restart_if_changed=restart_if_changed, wait=wait_seconds
        )
        others = await _unfinished(session)
        if names := [each.name for each in others if each.name != found.name]:
            note(
                f"also unfinished: {', '.join(names)}; `cohortsync resume --all` resumes each",
                label="note",
            )
        try:
            return await _push(found, request, session, RunObservers(**observers))
        except RunEndedError as ended:
            if run is not None:
                return NothingToResume(ended.message)
            if found.name in tried:
                raise
            tried.add(found.name)


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

    A run that the session works on is left out, and one that another process has ended in the
    meantime, with a note. After a failed run the next is still resumed; after a stop it is not.
    `ended` receives the result of each run that was tried.
    """
    config = session.config
    results: list[RunResult | FailedRun] = []

    async def resume_next(run: StoredRequest) -> RunResult | FailedRun | None:
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
                return await _push(run, request, session, RunObservers(**observers))
        except RunEndedError as error:
            note(error.message, label="note")
            return None
        except CohortSyncError as error:
            reason = f"run {run.name}: {error.message}"
            return FailedRun(run.name, reason, error.exit_status, error.hint)

    for run in await _unfinished(session):
        if switch.is_pulled or session.is_closed:
            why = "a signal came" if switch.is_pulled else "the engine was closed"
            untried = f"not resumed: {why}"
            results.append(FailedRun(run.name, untried, ExitStatus.INCOMPLETE))
        elif (result := await resume_next(run)) is not None:
            results.append(result)
            ended(result)
    return ResumedRuns(results) if results else await _nothing(config)


async def _push(
    found: StoredRequest, request: PushRequest, session: WorkspaceSession, observers: RunObservers
) -> RunResult:
    """Push; the results of queries that the run reads are deleted if it ends for good."""
    async with Queries(session) as queries:
        queries.hold_all(found.spec)
        return await push(request, session, observers)


def _target(config: Config) -> tuple[str, str, str]:
    workspace = config.workspace
    return config.place.endpoint, workspace.id, workspace.partner


async def _unfinished(session: WorkspaceSession) -> list[StoredRequest]:
    """Return the workspace's pushes that can be resumed, the earliest first.

    Those that the session works on are left out.
    """
    config, busy = session.config, session.cohorts
    return await asyncio.to_thread(unfinished_runs, config.state_dir, _target(config), busy)


async def _find(session: WorkspaceSession, run: str | None) -> StoredRequest | NothingToResume:
    """Find the run to resume; raises as `find_unfinished` does."""
    config, busy = session.config, session.cohorts
    found = await asyncio.to_thread(find_unfinished, config.state_dir, run, _target(config), busy)
    return found or await _nothing(config)


async def _nothing(config: Config) -> NothingToResume:
    """Return that no run of the workspace is left, and which run of another is."""
    other = await asyncio.to_thread(find_unfinished, config.state_dir, None)
    target = _target(config)
    if other is None or other.target == target:
        return NothingToResume("there is no unfinished run")
    return NothingToResume(
        f"no run for {' / '.join(target)} is unfinished; run {other.name} belongs to "
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
        resumes=found.name,
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
