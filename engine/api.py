"""The interface for programs and for the command line: one method for each command.

    async with Engine.open("config.toml") as engine:
        result = await engine.push("export.csv", Cohort("vip", "VIP customers"), column="user_id")

Each method returns a result whose `to_dict()` is the JSON document of the command, or a list of
such results. A run returns its result even if it failed; a method raises a `CohortSyncError` (see
`engine.errors`) if it cannot begin. Messages name options as the command line does.

Any event loop can be used, but one for each engine. No signal handlers are installed: pull a
`StopSwitch` to stop a run and keep its result. A cancelled run writes its accounts first; the same
call resumes it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from engine.errors import UsageError
from engine.model.cohort import Action, Cohort, CohortKey, check_id

if TYPE_CHECKING:
    from engine.config.loading import Config, Project
    from engine.delivery.stop import StopSwitch
    from engine.pacing.settings import PacingSettings
    from engine.preflight.check import CheckResult, Finding
    from engine.report.accounts import Accounts
    from engine.report.history import Reject, RunDetails
    from engine.report.period import PeriodReport
    from engine.report.plans import PlanEntry
    from engine.report.run_results import FailedRun, NothingToResume, ResumedRuns, RunResult
    from engine.report.state import Abandoned, BackedUp, Pruned, Restored, StateUsage
    from engine.report.support import SupportReport
    from engine.report.sync_result import SyncResult
    from engine.report.why import UidReport
    from engine.runs.arguments import (
        ActionName,
        Exports,
        FormatName,
        Note,
        Observers,
        OnChanged,
        PlanArguments,
        PlanObservers,
    )
    from engine.runs.context import RunObservers
    from engine.runs.resume import Follow
    from engine.runs.session import WorkspaceSession
    from engine.runs.snapshots import Snapshots
    from engine.source.protocol import Spec
    from engine.sync.request import SyncObservers

T = TypeVar("T")


class Engine:
    """The commands on one configuration; created by `Engine.open`.

    Any number of runs share an engine, one after another or at once, under one ceiling. Options:

    `column`: the uid column's name, its number from 1 without a header, or the dotted path of a
    field; None means the only column. `format`: `auto` detects it by suffix, then by content.
    `header`: whether the first record of a csv or tsv file names the columns. `strip`: whether
    white space around a uid is removed. `exclude`: files with uids that are left out, in the column
    `exclude_column`; see docs/sources.md. `allow`: guards to lift, each `name` or `name=bound`; it
    needs a `reason`, which is kept. `wait_seconds`: how long to wait for another process that holds
    the workspace. The observers are those of `engine.runs.arguments`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        workspace: str | None = None,
        endpoint: str | None = None,
        state: str | os.PathLike[str] | None = None,
        need_credentials: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._workspace = workspace
        self._endpoint = endpoint
        self._state = None if state is None else Path(state)
        self._need_credentials = need_credentials
        self._environ = environ
        self._sessions: dict[str, WorkspaceSession] = {}
        self._is_closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        workspace: str | None = None,
        endpoint: str | None = None,
        state: str | os.PathLike[str] | None = None,
        need_credentials: bool = True,
        lazy: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> AsyncIterator[Self]:
        """Read the configuration, and yield an engine that uses it.

        `path` is a configuration file, by default COHORTSYNC_CONFIG or ./config.toml. `workspace`
        names one of its workspaces, if there are several; `endpoint` and `state` override its
        values. Without `need_credentials` the API key is not read, for an
        engine that plans and reads but sends nothing.

        Raises `ConfigError` with a line for every problem. A `lazy` engine raises it when the
        configuration is first needed: `runs`, `show` and `rejects` need only the state folder, and
        `check` returns the problems of the rest.

        At the end of the block the runs that are still under way are stopped, as by a switch, and
        their ends are awaited; a later run raises `UsageError`.
        """
        engine = cls(
            path,
            workspace=workspace,
            endpoint=endpoint,
            state=state,
            need_credentials=need_credentials,
            environ=environ,
        )
        if not lazy:
            is_one_meant = workspace is not None or len(engine.project.workspaces) == 1
            _ = engine.config if is_one_meant else engine.project
        try:
            yield engine
        finally:
            engine._is_closed = True
            async with AsyncExitStack() as open_sessions:
                for session in engine._sessions.values():
                    open_sessions.push_async_exit(session)

    @cached_property
    def config(self) -> "Config":
        """The configuration; raises `ConfigError`."""
        from engine.config.loading import load

        return load(
            self._path,
            workspace=self._workspace,
            endpoint=self._endpoint,
            state=self._state,
            need_credentials=self._need_credentials,
            environ=self._environ,
        )

    @cached_property
    def project(self) -> "Project":
        """All workspaces, without their API keys, and all cohorts; raises `ConfigError`."""
        from engine.config.loading import load_project

        return load_project(
            self._path,
            endpoint=self._endpoint,
            state=self._state,
            need_credentials=False,
            environ=self._environ,
        )

    @property
    def _session(self) -> "WorkspaceSession":
        """The session of the engine's workspace."""
        self._refuse_closed()
        return self._session_of(self.config)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            from engine.runs.session import closed_error

            raise closed_error()

    def _session_of(self, config: "Config") -> "WorkspaceSession":
        """Return the session that all runs in a workspace share: a ledger, a pacer, a pool."""
        from engine.runs.session import WorkspaceSession

        session = self._sessions.get(config.name)
        if session is None:
            session = self._sessions[config.name] = WorkspaceSession(config)
        elif session.config.workspace.api_key is None:
            session.renew(config)
        return session

    @property
    def notes(self) -> Sequence[str]:
        """Warnings about the configuration: one sentence for each doubtful but valid setting."""
        return self.config.notes

    @property
    def pacing(self) -> "PacingSettings":
        """The ceiling: the maximum number of requests in any window, and its length in seconds."""
        return self.config.pacing

    async def push(
        self,
        exports: "Exports",
        cohort: Cohort,
        *,
        action: "ActionName" = Action.ADD,
        column: str | None = None,
        format: "FormatName" = "auto",  # noqa: A002 - the option's name
        header: bool = True,
        strip: bool = False,
        exclude: "Exports" = (),
        exclude_column: str | None = None,
        on_changed: "OnChanged" = "refuse",
        record: bool = False,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        dry_run: bool = False,
        **observers: "Unpack[Observers]",
    ) -> "RunResult":
        """Push an export's uids into a cohort, or resume the unfinished push of the same call.

        With `record` the snapshot of a mirrored cohort includes the pushed uids. `allow` can lift
        only the guard `name`. A `dry_run` reads and packs everything, and sends and writes nothing;
        its result has no run.

        Raises `SourceError` for an export that cannot be read, `UsageError` for a push that
        contradicts an earlier run or the snapshot, `GuardError` for a new name of a known cohort,
        and `LockHeldError` if another process holds the workspace.
        """
        from engine.config.loading import credentials_problem
        from engine.planning.allowances import read_push_allowances
        from engine.runs.arguments import note_and_switch
        from engine.runs.exports import excluding, open_push, spec_of
        from engine.runs.push import PushRequest, push

        session = self._session  # Errors of the configuration are raised first.
        allowances = read_push_allowances(allow, reason)
        note, switch = note_and_switch(observers)
        spec = spec_of(
            exports, {"column": column, "format": format, "header": header, "strip": strip}
        )
        spec = excluding(spec, exclude, exclude_column, Action(action))
        restarts = on_changed == "restart"
        source, spec = await open_push(spec, note=note, switch=switch, rereadable=restarts)
        if cohort.warning:
            note(cohort.warning, label="note")
        request = PushRequest(
            source=source,
            spec=spec,
            cohort=cohort,
            action=Action(action),
            restart_if_changed=restarts,
            allowances=allowances,
            reason=reason,
            records=record,
            wait_seconds=wait_seconds,
        )
        if not dry_run:
            return await push(request, session, _followed(observers))
        from engine.runs.dry_run import dry_run as push_nothing

        lacking = credentials_problem(self._path, workspace=self._workspace, environ=self._environ)
        return await push_nothing(request, session, _followed(observers), lacking=lacking)

    async def mirror(
        self,
        exports: "Exports",
        cohort: Cohort,
        *,
        column: str | None = None,
        format: "FormatName" = "auto",  # noqa: A002 - the option's name
        header: bool = True,
        strip: bool = False,
        exclude: "Exports" = (),
        exclude_column: str | None = None,
        first_action: "ActionName" = Action.REMOVE,
        allow: Sequence[str] = (),
        reason: str | None = None,
        assume_empty: bool = False,
        trust: int | None = None,
        wait_seconds: float = 0.0,
        dry_run: bool = False,
        shadow: bool = False,
        **observers: "Unpack[PlanObservers]",
    ) -> "RunResult":
        """Make a cohort equal to an export by sending the changes since the last mirror.

        `first_action` is the action that is sent first. `assume_empty` begins with an empty
        snapshot: it adds everything and removes nothing. `trust` is the generation to use as the
        baseline in place of a lost one. A `dry_run` plans and sends nothing, as `plan` does. A
        `shadow` never sends anything, and updates a separate snapshot as if all had been sent.

        A guard that blocks ends the run with exit status 4. Raises as `push` does, and `GuardError`
        for an empty export.
        """
        from engine.planning.allowances import read_allowances
        from engine.runs.arguments import note_and_switch
        from engine.runs.exports import excluding, open_desired, open_exclusion, spec_of
        from engine.runs.mirror import mirror
        from engine.runs.planner import MirrorRequest

        if dry_run and shadow:
            raise UsageError("--dry-run and --shadow exclude each other")
        if assume_empty and trust is not None:
            raise UsageError("--assume-empty and --trust exclude each other")
        asked = partial(
            MirrorRequest,
            first_action=Action(first_action),
            allowances=read_allowances(allow, reason),
            reason=reason,
            assume_empty=assume_empty,
            trust=trust,
            is_shadow=shadow,
            wait_seconds=wait_seconds,
        )
        session = self._session
        note, switch = note_and_switch(observers)
        spec = spec_of(
            exports, {"column": column, "format": format, "header": header, "strip": strip}
        )
        spec = excluding(spec, exclude, exclude_column)
        listed = None
        if spec.exclude is not None:
            listed = await open_exclusion(spec.exclude, note=note, switch=switch)
        source = await open_desired(spec, note=note, switch=switch)
        if cohort.warning:
            note(cohort.warning, label="note")
        if dry_run:
            self._note_missing_key(note)
        request = asked(source=source, spec=spec, cohort=cohort, exclude=listed)
        return await mirror(request, session, _followed(observers), sends=not (dry_run or shadow))

    async def sync(
        self,
        cohorts: Sequence[str] = (),
        *,
        tags: Sequence[str] = (),
        failed: bool = False,
        dry_run: bool = False,
        until: str | None = None,
        max_requests: int | None = None,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        observers: "SyncObservers | None" = None,
    ) -> "SyncResult":
        """Sync the configured cohorts: all that are enabled, or those that are named.

        `tags` selects the cohorts with one of them, and `failed` those that did not end with exit
        status 0 in their last sync. `until` (HH:MM) stops the sync at that time of day, and
        `max_requests` after so many requests. Each of `allow` is `cohort:guard` or
        `cohort:guard=bound`. A `dry_run` plans every cohort and sends nothing.

        The workspaces are synced side by side; in each, the cohorts by priority and deadline. What
        happens to one cohort does not stop the others: the result has the result of each. Raises
        `UsageError` if no cohort is selected, and `ConfigError` for an invalid configuration.
        """
        from engine.clock import SystemClock
        from engine.sync.request import (
            SyncObservers,
            SyncRequest,
            read_cohort_allowances,
            read_until,
        )
        from engine.sync.sync import sync

        self._refuse_closed()
        request = SyncRequest(
            keys=cohorts,
            tags=tags,
            only_failed=failed,
            is_dry=dry_run,
            until=read_until(until),
            max_requests=max_requests,
            allowances=read_cohort_allowances(allow, reason, self.project.cohorts),
            reason=reason,
            wait_seconds=wait_seconds,
        )
        return await sync(
            self.project, request, self._session_of, observers or SyncObservers(), SystemClock()
        )

    async def plan(
        self, exports: "Exports", cohort: Cohort, **options: "Unpack[PlanArguments]"
    ) -> "RunResult":
        """Plan a mirror and keep the plan for `apply`; nothing is sent. See `mirror`.

        The result's `run` is the plan's name, and its `plan` describes the plan.
        """
        return await self.mirror(exports, cohort, dry_run=True, **options)

    async def apply(
        self,
        plan: str,
        *,
        first: int | None = None,
        wait_seconds: float = 0.0,
        **observers: "Unpack[PlanObservers]",
    ) -> "RunResult":
        """Send a plan as it was made, or the `first` uids of it that are not sent yet.

        Raises `UsageError` if there is no such plan, if a guard blocks it, if all of it is sent, or
        if the snapshot has changed since.
        """
        from engine.runs.mirror import apply

        return await apply(
            plan,
            self._session,
            _followed(observers),
            first=first,
            wait_seconds=wait_seconds,
        )

    async def rollback(
        self,
        cohort_id: str,
        generation: int,
        *,
        cohort_name: str | None = None,
        first_action: "ActionName" = Action.REMOVE,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        dry_run: bool = False,
        **observers: "Unpack[PlanObservers]",
    ) -> "RunResult":
        """Make a cohort equal to an earlier generation, by a mirror with the same guards.

        The cohort keeps the name of its last mirror, unless another is given. A `dry_run` plans,
        for `apply`, and sends nothing. Raises `UsageError` if the name is unknown, and
        `LedgerError` if the generation is no longer kept.
        """
        from engine.planning.allowances import read_allowances
        from engine.runs.arguments import note_and_switch
        from engine.runs.mirror import RollbackRequest, rollback
        from engine.runs.planner import MirrorRequest

        check_id(cohort_id)
        asked = partial(
            MirrorRequest,
            first_action=Action(first_action),
            allowances=read_allowances(allow, reason),
            reason=reason,
            wait_seconds=wait_seconds,
        )
        note, _ = note_and_switch(observers)
        if dry_run:
            self._note_missing_key(note)

        def request(spec: "Spec", cohort: Cohort) -> MirrorRequest:
            return asked(source=spec.open(), spec=spec, cohort=cohort)

        asked_for = RollbackRequest(cohort_id, generation, request, cohort_name, wait_seconds)
        return await rollback(asked_for, self._session, _followed(observers), sends=not dry_run)

    async def resume(
        self,
        run: str | None = None,
        *,
        on_changed: "OnChanged" = "refuse",
        wait_seconds: float = 0.0,
        **observers: "Unpack[Observers]",
    ) -> "RunResult | NothingToResume":
        """Resume an unfinished push: `run`, or the latest of this workspace.

        Raises `UsageError` for a run that is unknown, has ended finally, or can be resumed only by
        its own command, such as one that read from a pipe. Raises as `push` does.
        """
        from engine.runs.arguments import note_and_switch
        from engine.runs.resume import resume

        note_and_switch(observers)
        return await resume(
            self._session,
            run,
            restart_if_changed=on_changed == "restart",
            wait_seconds=wait_seconds,
            observers=observers,
        )

    async def resume_all(
        self,
        *,
        on_changed: "OnChanged" = "refuse",
        wait_seconds: float = 0.0,
        follow: "Follow | None" = None,
        ended: "Callable[[RunResult | FailedRun], None]" = lambda _: None,
        **observers: "Unpack[Observers]",
    ) -> "ResumedRuns | NothingToResume":
        """Resume each unfinished push of this workspace, the earliest first.

        After a failed run the next is still resumed; after a stop it is not. `ended` receives each
        result when its run ends. `follow` receives the name of each run and returns a context
        manager that yields its observers; by default all runs have the same observers.
        """
        from engine.runs.arguments import note_and_switch
        from engine.runs.resume import resume_all

        note, switch = note_and_switch(observers)
        return await resume_all(
            self._session,
            restart_if_changed=on_changed == "restart",
            wait_seconds=wait_seconds,
            note=note,
            switch=switch,
            follow=follow or (lambda _: nullcontext(observers)),
            ended=ended,
        )

    async def abandon(
        self,
        run: str,
        *,
        wait_seconds: float = 0.0,
        note: "Note | None" = None,
        switch: "StopSwitch | None" = None,
    ) -> "Abandoned":
        """Close an unfinished push, or a kept plan, for good: it is not resumed or applied.

        What may have been applied of it stays unconfirmed. Raises `UsageError` for a run that is
        unknown or has ended, and `LockHeldError` if another process works on its cohort.
        """
        from engine.delivery.stop import StopSwitch
        from engine.runs.abandoning import abandon
        from engine.runs.arguments import no_note

        return await abandon(
            run,
            self._session,
            wait_seconds=wait_seconds,
            note=note or no_note,
            switch=switch or StopSwitch(),
        )

    async def runs(
        self,
        *,
        cohort_id: str | None = None,
        status: Sequence[str] | None = None,
        since: datetime | None = None,
    ) -> "list[Accounts]":
        """Return the accounts of the runs in the state folder, the latest first.

        Only runs of that cohort, with one of those statuses, and begun at `since` or later.
        """
        from engine.ledger.run_records import RunFilter
        from engine.report.history import all_runs

        since_utc_ns = None
        if since is not None:
            since_utc_ns = max(0, min(round(since.timestamp() * 1e9), _LAST_UTC_NS))
        wanted = RunFilter(cohort_id=cohort_id, statuses=status, since_utc_ns=since_utc_ns)
        return await asyncio.to_thread(all_runs, self._state_folder, wanted)

    async def plans(self) -> "list[PlanEntry]":
        """Return the plans that are kept in the state folder, the latest first."""
        from engine.report.plans import kept_plans

        return await asyncio.to_thread(kept_plans, self._state_folder)

    async def usage(self) -> "StateUsage":
        """Return the size of the state folder, by kind of file.

        Raises `LedgerError` for a folder that cannot be read.
        """
        from engine.report.state import StateUsage
        from engine.runs.retention import usage_of

        return StateUsage(await asyncio.to_thread(usage_of, self.project.shared))

    async def prune(self, *, keep_days: int | None = None, dry_run: bool = False) -> "Pruned":
        """Delete what is older than `keep_days`, by default `state.keep_days`, and not needed.

        Runs that send meanwhile are not delayed. A `dry_run` deletes nothing.
        """
        from engine.runs.retention import prune

        return await prune(self.project.shared, keep_days=keep_days, is_dry_run=dry_run)

    async def backup(self, folder: str | os.PathLike[str]) -> "BackedUp":
        """Copy ledgers and snapshots, as of one moment, to a new folder; runs go on meanwhile.

        Raises `UsageError` if the folder exists and is not empty.
        """
        from engine.runs.backup import backup

        return await backup(self._state_folder, Path(folder))

    async def restore(self, folder: str | os.PathLike[str]) -> "Restored":
        """Replace the state folder by a backup; the present state is set aside.

        What was sent after the backup is unknown: the next mirror of each cohort is stopped by the
        guard `restored`. Call it on an engine that has done nothing else. Raises `UsageError` for a
        folder that is no backup, `LedgerError` for a damaged one, and `LockHeldError` if a process
        works here.
        """
        from engine.runs.restore import restore

        return await restore(self.project, Path(folder))

    async def show(self, run: str, *, attempts: bool = True) -> "RunDetails":
        """Return a run's accounts, files, batches and attempts; its totals are recounted.

        Without `attempts`, batches and attempts are left out: a run may have very many.
        Here and wherever a run or plan is named, `run` may be `latest`, or the beginning of one
        name only. Raises `UsageError` if there is no such run, or if there are several.
        """
        from engine.report.history import details_of

        return await asyncio.to_thread(details_of, self._state_folder, run, has_attempts=attempts)

    async def rejects(self, run: str) -> "AsyncGenerator[Reject, None]":
        """Yield every rejected uid of a run and every blank or invalid row, in export order.

        Raises `UsageError` if there is no such run.
        """
        from engine.report.history import rejects_in

        async for reject in _iterated(lambda: rejects_in(self._state_folder, run)):
            yield reject

    async def report(
        self,
        *,
        since_hours: float = 24.0,
        html: str | os.PathLike[str] | None = None,
        with_uids: bool = False,
    ) -> "PeriodReport":
        """Return what happened in the last hours, in all workspaces of the state folder.

        With `html`, also write it as a page to that file. With `with_uids`, it has the first
        rejected uids, and only its owner may read the page. Raises `LedgerError` if a ledger cannot
        be read or the page cannot be written.
        """
        from engine.clock import SystemClock
        from engine.report.period_reading import report_on

        now = SystemClock().stamp().utc_ns
        since = now - round(since_hours * 3600e9)
        read = partial(report_on, self._state_folder, since, now, with_uids=with_uids)
        report = await asyncio.to_thread(read)
        if html is not None:
            from engine.page.rendering import write_page

            await asyncio.to_thread(write_page, report, Path(html))
        return report

    async def support(self, run: str) -> "SupportReport":
        """Return what the API's vendor needs to look into a run, without uids and credentials.

        `run` is as in `show`. A configuration that can't be read is left out of the report.
        """
        from engine.report.support import support_report

        def read() -> "SupportReport":
            return support_report(self._state_folder, run, self._masked_settings)

        return await asyncio.to_thread(read)

    def _masked_settings(self, workspace: str) -> "dict[str, dict[str, Any]] | None":
        """Return the settings of the workspace with this id, texts masked; None without one."""
        from engine.config.masked_settings import masked_settings
        from engine.errors import ConfigError

        try:
            configs = self.project.workspaces.values()
        except ConfigError:
            return None
        return next(
            (masked_settings(each) for each in configs if each.workspace.id == workspace), None
        )

    async def why(self, uid: str, cohort_id: str) -> "UidReport":
        """Return whether a uid is in a cohort, since when, and by which request.

        Raises `UsageError` if nothing was ever sent to the workspace or the cohort.
        """
        from engine.runs.inquiry import why

        return await asyncio.to_thread(why, self.config, uid, cohort_id)

    async def check(
        self, *, live: bool = False, found: "Callable[[Finding], None]" = lambda _: None
    ) -> "CheckResult":
        """Check whether a run could start; problems are returned, not raised.

        `found` receives each finding as soon as it is known. With `live` the key is tested by one
        deliberately invalid request.
        """
        from engine.preflight.check import CheckResult, run_checks

        findings = []
        async for finding in run_checks(
            self._path,
            workspace=self._workspace,
            endpoint=self._endpoint,
            state=self._state,
            live=live,
            environ=self._environ,
        ):
            findings.append(finding)
            found(finding)
        return CheckResult(findings)

    def snapshots(
        self,
        cohort_id: str,
        *,
        shadow: bool = False,
        note: "Note | None" = None,
        switch: "StopSwitch | None" = None,
    ) -> "Snapshots":
        """Return the snapshots of a cohort; with `shadow`, those of its shadow mirrors.

        Raises `UsageError` for an id that no cohort has.
        """
        from engine.delivery.stop import StopSwitch
        from engine.runs.arguments import no_note
        from engine.runs.snapshots import Snapshots

        key = CohortKey(self.config.workspace.partner, cohort_id, shadow)
        return Snapshots(self._session, key, note or no_note, switch or StopSwitch())

    @cached_property
    def _state_folder(self) -> Path:
        from engine.config.loading import locate_state

        return locate_state(self._path, state=self._state, environ=self._environ)

    def _note_missing_key(self, note: "Note") -> None:
        """Pass `note` a remark if credentials are missing that sending the plan will need."""
        from engine.config.loading import credentials_problem

        problem = credentials_problem(self._path, workspace=self._workspace, environ=self._environ)
        if problem is not None:
            note(problem, label="note")


def _followed(observers: "Observers | PlanObservers") -> "RunObservers":
    from engine.runs.context import RunObservers

    return RunObservers(**observers)


async def _iterated(iterate: Callable[[], Generator[T, None, None]]) -> AsyncIterator[T]:
    """Yield the items of `iterate`; one thread reads them, so the event loop is not blocked."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        items = iterate()
        try:
            while chunk := await loop.run_in_executor(thread, lambda: list(islice(items, _CHUNK))):
                for item in chunk:
                    yield item
        finally:  # SQLite closes a connection only in its own thread.
            await loop.run_in_executor(thread, items.close)


_LAST_UTC_NS = (1 << 63) - 1
"""The latest time that a ledger can hold, in the year 2262."""

_CHUNK = 1_000
"""The number of items that a thread reads at a time."""
