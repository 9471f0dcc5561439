"""A sync: every selected cohort of a configuration, workspaces side by side, in one process."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, date, datetime

from engine.clock import Clock
from engine.config.cohorts import CohortSettings
from engine.config.loading import Config, Project
from engine.config.settings import SyncSettings
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.sync_records import SyncRecord
from engine.model.time_of_day import next_moment
from engine.report.sync_result import CohortResult, CohortStatus, SyncResult
from engine.runs.session import WorkspaceSession
from engine.sync.cohort_run import CohortRun
from engine.sync.context import SyncContext, following
from engine.sync.follow_up import follow_up
from engine.sync.past_syncs import last_records
from engine.sync.request import CohortLine, SyncObservers, SyncOpening, SyncRequest
from engine.sync.selection import failed_keys, in_order, select
from engine.sync.workspace_sync import WorkspaceSync

OpenSession = Callable[[Config], WorkspaceSession]
"""Returns the session of a workspace; its owner closes it after the sync."""

_CONTINUED_NS = 12 * 3600 * 1_000_000_000
"""How long after its begin a sync that was not completed is continued with its date."""


async def sync(
    project: Project,
    request: SyncRequest,
    open_session: OpenSession,
    observers: SyncObservers,
    clock: Clock,
) -> SyncResult:
    """Sync the selected cohorts; what happens to one does not stop the others.

    Raises `UsageError` if no cohort is selected, and `LedgerError` if the earlier syncs cannot be
    read. Other failures are part of the result.
    """
    settings = project.shared.sync
    started = clock.stamp().utc_ns
    request = _with_defaults(request, settings)
    context = SyncContext(
        _name_of(started),
        request,
        observers,
        settings,
        clock,
        started,
        settings.time_zone,
    )
    past = await asyncio.to_thread(last_records, project)
    failed = failed_keys(project.cohorts, {key: each.exit_status for key, each in past.items()})
    cohorts = in_order(select(project.cohorts, request, failed), context.started)
    dates = {each.key: _date_of(each.key, past, context) for each in cohorts}
    lines = [CohortLine(each.key, each.name, each.workspace, each.mode) for each in cohorts]
    observers.begun(SyncOpening(context.name, lines, request.is_dry))
    by_folder: dict[object, list[str]] = defaultdict(list)
    for name in dict.fromkeys(each.workspace for each in cohorts):
        by_folder[project.workspaces[name].place].append(name)
    results: dict[str, CohortResult] = {}

    async def in_turn(names: Sequence[str]) -> None:
        """Sync workspaces of one folder one after another: they share a ceiling."""
        for name in names:
            mine = [each for each in cohorts if each.workspace == name]
            config = project.workspaces[name]
            for result in await _sync_workspace(config, mine, dates, context, open_session):
                results[result.cohort] = result

    async with AsyncExitStack() as held:
        if request.until is not None:
            end = next_moment(request.until, started, context.zone)
            stopping = context.stop_at(end, context.switch, f"it is {request.until:%H:%M}")
            held.callback(asyncio.create_task(stopping).cancel)
        async with asyncio.TaskGroup() as workspaces:
            for names in by_folder.values():
                workspaces.create_task(in_turn(names))
    result = SyncResult(
        context.name,
        started,
        clock.stamp().utc_ns,
        [results[each.key] for each in cohorts],
        is_dry=request.is_dry,
    )
    if not request.is_dry:
        await follow_up(project, context)
    return result


async def _sync_workspace(
    config: Config,
    cohorts: Sequence[CohortSettings],
    dates: Mapping[str, date],
    context: SyncContext,
    open_session: OpenSession,
) -> list[CohortResult]:
    """Sync the cohorts of one workspace, given in the order in which they are sent."""
    try:
        if not context.request.is_dry:
            config = await asyncio.to_thread(config.with_key)
        workspace = WorkspaceSync(config.name, open_session(config), context, cohorts, dates)
        await workspace.record_begin()
    except CohortSyncError as error:
        return [_not_begun(each, config.name, error, context) for each in cohorts]
    runs = [CohortRun(each, workspace, rank) for rank, each in enumerate(cohorts)]
    async with asyncio.TaskGroup() as tasks:
        ended = [tasks.create_task(_sync_cohort(each, workspace)) for each in runs]
    return [each.result() for each in ended]


async def _sync_cohort(run: CohortRun, workspace: WorkspaceSync) -> CohortResult:
    """Sync one cohort, record how it ended, and pass that on."""
    sync = workspace.sync
    deadline = workspace.deadlines[run.cohort.key]
    async with AsyncExitStack() as held:
        held.enter_context(following(run.switch, sync.switch))
        if deadline is not None and sync.settings.on_late == "cut":
            stopping = sync.stop_at(deadline, run.switch, "its deadline has passed")
            held.callback(asyncio.create_task(stopping).cancel)
        result = await run.run()
    try:
        await workspace.record(run.cohort, result)
    except CohortSyncError as error:  # The run itself is recorded, and so is its result.
        sync.observers.note(f"{run.cohort.key}: not recorded: {error.message}", label="warning")
    sync.observers.ended(result)
    return result


def _not_begun(
    cohort: CohortSettings, workspace: str, error: CohortSyncError, context: SyncContext
) -> CohortResult:
    """Return the result of a cohort whose workspace cannot be used."""
    result = CohortResult(
        cohort.key,
        workspace,
        cohort.id,
        cohort.name,
        cohort.mode,
        CohortStatus.FAILED,
        error.exit_status,
        error.message,
        error.hint,
        owner=cohort.owner,
    )
    context.observers.ended(result)
    return result


def _with_defaults(request: SyncRequest, settings: SyncSettings) -> SyncRequest:
    """Return the request with the bounds of the configuration, unless it has its own."""
    return replace(
        request,
        until=request.until or settings.until,
        max_requests=request.max_requests or settings.max_requests,
    )


def _date_of(key: str, past: Mapping[str, SyncRecord], context: SyncContext) -> date:
    """Return the date in the names of an export's files: today, or that of a sync to continue."""
    last = past.get(key)
    if (
        last is not None
        and last.exit_status in {None, ExitStatus.INCOMPLETE}
        and context.started_utc_ns - last.started_utc_ns < _CONTINUED_NS
    ):
        with suppress(ValueError):
            return date.fromisoformat(last.date)
    return context.started.date()


def _name_of(utc_ns: int) -> str:
    return f"sync-{datetime.fromtimestamp(utc_ns / 1e9, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
