"""A sync: every selected cohort of a configuration, workspaces side by side, in one process."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from engine.clock import Clock
from engine.config.cohort_settings import CohortSettings
from engine.config.loading import Config, Project
from engine.config.settings import SyncSettings
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.sync_records import SyncRecord
from engine.model.status import CohortStatus
from engine.model.time_of_day import next_moment
from engine.notices.ports import NoticeContext, OpenLedger
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.report.sync_result import CohortResult, SyncResult
from engine.runs.ports import Ledger
from engine.runs.session import WorkspaceSession
from engine.runs.shared_ledger import LockWait
from engine.sync.cohort_run import CohortRun
from engine.sync.context import SyncContext
from engine.sync.follow_up import described, follow_up
from engine.sync.notices import notices_of
from engine.sync.past_syncs import last_records
from engine.sync.request import CohortLine, SyncObservers, SyncOpening, SyncRequest
from engine.sync.selection import failed_keys, in_order, select
from engine.sync.shared_ceiling import SharedCeiling
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
    past, unreadable = await asyncio.to_thread(last_records, project)
    for error in unreadable:
        observers.note(f"the record of earlier syncs is unknown: {error.message}", label="warning")
    failed = failed_keys(project.cohorts, {key: each.exit_status for key, each in past.items()})
    cohorts = in_order(select(project.cohorts, request, failed), context.started)
    context.dates = {each.key: _date_of(each.key, past, context) for each in cohorts}
    lines = [CohortLine(each.key, each.name, each.workspace, each.mode) for each in cohorts]
    async with AsyncExitStack() as held:
        ledgers = _ledgers(project, open_session, context)
        surroundings = NoticeContext(ledgers, clock, _warn(observers), context.switch)
        notices = notices_of(project, context.dates, surroundings)
        await notices.check()  # In a dry run, too: it shows what would stop the sync.
        if not request.is_dry:
            context.notices = await held.enter_async_context(notices)
            await notices.begin(context.name, started)
        ceilings = {
            name: HourlyCeiling(project.workspaces[name].pacing)
            for name in dict.fromkeys(each.workspace for each in cohorts)
        }
        observers.begun(SyncOpening(context.name, lines, request.is_dry, ceilings))
        if request.until is not None:
            end = next_moment(request.until, started, context.zone)
            stopping = context.stop_at(end, context.switch, f"it is {request.until:%H:%M}")
            held.callback(asyncio.create_task(stopping).cancel)
        results = await _sync_all(project, cohorts, context, open_session)
        result = SyncResult(
            context.name,
            started,
            clock.stamp().utc_ns,
            [results[each.key] for each in cohorts],
            is_dry=request.is_dry,
            requests=context.sent,
            ceiling_use=context.ceiling_use,
        )
        if context.notices is None:
            return result
        result = await context.notices.end(result)
        await follow_up(project, context)
        return result


async def _sync_all(
    project: Project,
    cohorts: Sequence[CohortSettings],
    context: SyncContext,
    open_session: OpenSession,
) -> dict[str, CohortResult]:
    """Sync workspaces side by side; those of one folder share a ceiling and its order."""
    by_folder: dict[object, list[CohortSettings]] = defaultdict(list)
    for each in cohorts:
        by_folder[project.workspaces[each.workspace].place.folder].append(each)
    ended: list[asyncio.Task[list[CohortResult]]] = []
    async with asyncio.TaskGroup() as workspaces:
        for together in by_folder.values():
            names = dict.fromkeys(each.workspace for each in together)
            pacing = project.workspaces[together[0].workspace].pacing
            ceiling = SharedCeiling(pacing, together, context)
            for name in names:
                mine = [each for each in together if each.workspace == name]
                syncing = _sync_workspace(
                    project.workspaces[name], mine, context, ceiling, open_session
                )
                ended.append(workspaces.create_task(syncing))
    return {result.cohort: result for each in ended for result in each.result()}


async def _sync_workspace(
    config: Config,
    cohorts: Sequence[CohortSettings],
    context: SyncContext,
    ceiling: SharedCeiling,
    open_session: OpenSession,
) -> list[CohortResult]:
    """Sync the cohorts of one workspace, given in the order in which they are sent."""
    try:
        workspace = WorkspaceSync(config.name, open_session(config), context, cohorts, ceiling)
        await workspace.record_begin()
    except CohortSyncError as error:  # Without a ledger, nothing can be recorded.
        return [await _ended(_not_begun(each, error), None, each, context) for each in cohorts]
    if context.request.is_dry:
        if (problem := await asyncio.to_thread(config.key_problem)) is not None:
            context.observers.note(f"{config.name}: {problem}", label="warning")
    else:
        try:
            open_session(await asyncio.to_thread(config.with_key))
        except CohortSyncError as error:
            return [
                await _ended(_not_begun(each, error), workspace, each, context) for each in cohorts
            ]
    if context.notices is not None:
        # The begin is recorded, and nothing is sent yet: a crash between the two leaves a marker
        # that is still right, and a cohort that the next sync runs.
        for each in cohorts:
            context.notices.cohort_begins(each.key)
    runs = [CohortRun(each, workspace) for each in cohorts]
    async with workspace.queries, asyncio.TaskGroup() as tasks:
        ended = [tasks.create_task(_sync_cohort(each, workspace)) for each in runs]
    return [each.result() for each in ended]


async def _sync_cohort(run: CohortRun, workspace: WorkspaceSync) -> CohortResult:
    """Sync one cohort, record how it ended, and pass that on."""
    sync = workspace.sync
    deadline = workspace.ceiling.deadlines[run.cohort.key]
    async with AsyncExitStack() as held:
        held.enter_context(sync.switch.connected(run.switch.pass_on))
        if deadline is not None and sync.settings.on_late == "cut":
            stopping = sync.stop_at(deadline, run.switch, "its deadline has passed")
            held.callback(asyncio.create_task(stopping).cancel)
        result = await run.run()
    return await _ended(result, workspace, run.cohort, sync)


async def _ended(
    result: CohortResult,
    workspace: WorkspaceSync | None,
    cohort: CohortSettings,
    context: SyncContext,
) -> CohortResult:
    """Record how a cohort ended, let what follows it follow, and pass the result on.

    It is recorded again if what follows has failed. No failure here hides the result.
    """
    await _record(result, workspace, cohort, context)
    if context.notices is not None:
        followed = await context.notices.cohort_ended(result)
        if followed is not result:
            result = followed
            await _record(result, workspace, cohort, context)
    context.observers.ended(result)
    return result


async def _record(
    result: CohortResult,
    workspace: WorkspaceSync | None,
    cohort: CohortSettings,
    context: SyncContext,
) -> None:
    if workspace is None:
        return
    try:
        await workspace.record(cohort, result)
    except Exception as error:  # noqa: BLE001 - the run itself is recorded, and so is its result
        reason = f"{cohort.key}: the end is not recorded: {described(error)}"
        context.observers.note(reason, label="warning")


def _not_begun(cohort: CohortSettings, error: CohortSyncError) -> CohortResult:
    """Return the result of a cohort whose workspace cannot be used."""
    return CohortResult(
        cohort.key,
        cohort.workspace,
        cohort.id,
        cohort.name,
        cohort.mode,
        CohortStatus.FAILED,
        error.exit_status,
        error.message,
        error.hint,
        owner=cohort.owner,
    )


def _ledgers(project: Project, open_session: OpenSession, context: SyncContext) -> OpenLedger:
    """Return a function that opens the ledger of a workspace, also after a stop of the sync."""

    @asynccontextmanager
    async def open_ledger(name: str) -> AsyncIterator[Ledger]:
        session = open_session(project.workspaces[name])
        waiting = LockWait(context.request.wait_seconds, StopSwitch(), context.observers.note)
        async with session.using_ledger(waiting) as ledger:
            yield ledger

    return open_ledger


def _warn(observers: SyncObservers) -> Callable[[str], None]:
    return lambda text: observers.note(text, label="warning")


def _with_defaults(request: SyncRequest, settings: SyncSettings) -> SyncRequest:
    """Return the request with the bounds of the configuration, unless it has its own."""
    return replace(
        request,
        until=request.until or settings.until,
        max_requests=request.max_requests or settings.max_requests,
    )


def _date_of(key: str, past: Mapping[str, SyncRecord], context: SyncContext) -> date:
    """Return the date in the names of an export's files: today, or that of a sync to continue.

    A sync that was not completed is continued with its date, also after midnight; so is one that a
    guard stopped, if the guard is lifted now.
    """
    last, today = past.get(key), context.started.date()
    if last is None or context.started_utc_ns - last.started_utc_ns >= _CONTINUED_NS:
        return today
    is_lifted = last.exit_status == ExitStatus.GUARDED and key in context.request.allowances
    if is_lifted or last.exit_status in {None, ExitStatus.INCOMPLETE}:
        with suppress(ValueError):
            # A sync that continues another one gets no further back than that.
            return max(date.fromisoformat(last.date), today - timedelta(days=1))
    return today


def _name_of(utc_ns: int) -> str:
    return f"sync-{datetime.fromtimestamp(utc_ns / 1e9, UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
