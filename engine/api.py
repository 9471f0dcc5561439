"""The interface for programs and for the command line: one method for each command.

    async with Engine.open("config.toml") as engine:
        result = await engine.push("export.csv", Cohort("vip", "VIP customers"), column="user_id")

A method returns a result whose `to_dict()` is the JSON document of the command, or a list of such
results; `rejects` yields them one by one. A run returns its result even if it failed; a method
raises a `CohortSyncError` (see `engine.errors`) if it cannot begin. Messages name options as the
command line does.

Any event loop can be used, but one for each engine. No signal handlers are installed: pull a
`StopSwitch` to stop a run and keep its result. A cancelled run writes its accounts first; the same
call resumes it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from engine.errors import UsageError
from engine.model.cohort import Action, Cohort, CohortKey, check_id

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.config.loading import Config
    from engine.delivery.stop import StopSwitch
    from engine.pacing.pacer import Pacer
    from engine.pacing.settings import PacingSettings
    from engine.preflight.check import CheckResult, Finding
    from engine.report.accounts import Accounts
    from engine.report.history import Reject, RunDetails
    from engine.report.run_results import FailedRun, NothingToResume, ResumedRuns, RunResult
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

T = TypeVar("T")


class Engine:
    """The commands on one configuration; created by `Engine.open`.

    Any number of runs share an engine, one after another or at once, under one ceiling. Options:

    `column`: the uid column's name, its number from 1 without a header, or the dotted path of a
    field; None means the only column. `format`: `auto` detects it by suffix, then by content.
    `header`: whether the first record of a csv or tsv file names the columns. `strip`: whether
    white space around a uid is removed. `allow`: guards to lift, each `name` or `name=bound`; it
    needs a `reason`, which is kept. `wait_seconds`: how long to wait for another process that holds
    the workspace. The observers are those of `engine.runs.arguments`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        endpoint: str | None = None,
        state: str | os.PathLike[str] | None = None,
        need_credentials: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = None if path is None else Path(path)
        self._endpoint = endpoint
        self._state = None if state is None else Path(state)
        self._need_credentials = need_credentials
        self._environ = environ
        self._opened: WorkspaceSession | None = None
        self._is_closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        endpoint: str | None = None,
        state: str | os.PathLike[str] | None = None,
        need_credentials: bool = True,
        lazy: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> AsyncIterator[Self]:
        """Read the configuration, and yield an engine that uses it.

        `path` is a configuration file, by default COHORTSYNC_CONFIG or ./config.toml; `endpoint`
        and `state` override its values. Without `need_credentials` the API key is not read, for an
        engine that plans and reads but sends nothing.

        Raises `ConfigError` with a line for every problem. A `lazy` engine raises it when the
        configuration is first needed: `runs`, `show` and `rejects` need only the state folder, and
        `check` returns the problems of the rest.

        At the end of the block the runs that are still under way are stopped, as by a switch, and
        their ends are awaited; a later run raises `UsageError`.
        """
        engine = cls(
            path,
            endpoint=endpoint,
            state=state,
            need_credentials=need_credentials,
            environ=environ,
        )
        if not lazy:
            _ = engine.config
        try:
            yield engine
        finally:
            engine._is_closed = True
            if engine._opened is not None:
                await engine._opened.__aexit__()

    @cached_property
    def config(self) -> "Config":
        """The configuration; raises `ConfigError`."""
        from engine.config.loading import load

        return load(
            self._path,
            endpoint=self._endpoint,
            state=self._state,
            need_credentials=self._need_credentials,
            environ=self._environ,
        )

    @property
    def _session(self) -> "WorkspaceSession":
        """The session that all runs share: one ledger, one pacer, one connection pool."""
        from engine.runs.session import WorkspaceSession, closed_error

        if self._is_closed:
            raise closed_error()
        if self._opened is None:
            self._opened = WorkspaceSession(self.config)
        return self._opened

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
        from engine.runs.exports import open_exports, spec_of
        from engine.runs.push import PushRequest, push

        session = self._session  # Errors of the configuration are raised first.
        allowances = read_push_allowances(allow, reason)
        note, switch = note_and_switch(observers)
        spec = spec_of(
            exports, {"column": column, "format": format, "header": header, "strip": strip}
        )
        restarts = on_changed == "restart"
        source = await open_exports(spec, note=note, switch=switch, rereadable=restarts)
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

        lacking = credentials_problem(self._path, environ=self._environ)
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
        from engine.runs.exports import open_desired, spec_of
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
        source = await open_desired(spec, note=note, switch=switch)
        if cohort.warning:
            note(cohort.warning, label="note")
        if dry_run:
            self._note_missing_key(note)
        request = asked(source=source, spec=spec, cohort=cohort)
        return await mirror(request, session, _followed(observers), sends=not (dry_run or shadow))

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

    async def runs(self) -> "list[Accounts]":
        """Return the accounts of every run in the state folder, the latest first."""
        from engine.report.history import all_runs

        return await asyncio.to_thread(all_runs, self._state_folder)

    async def show(self, run: str) -> "RunDetails":
        """Return a run's accounts, files, batches and attempts; its totals are recounted.

        Raises `UsageError` if there is no such run.
        """
        from engine.report.history import details_of

        return await asyncio.to_thread(details_of, self._state_folder, run)

    async def rejects(self, run: str) -> "AsyncGenerator[Reject, None]":
        """Yield every rejected uid of a run and every row that planned no uid, in export order.

        Raises `UsageError` if there is no such run.
        """
        from engine.report.history import rejects_in

        async for reject in _iterated(lambda: rejects_in(self._state_folder, run)):
            yield reject

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
        deliberately invalid request, for which the runs of this engine leave a turn.
        """
        from engine.preflight.check import CheckResult, run_checks

        findings = []
        async for finding in run_checks(
            self._path,
            endpoint=self._endpoint,
            state=self._state,
            environ=self._environ,
            probing=self._probing if live else None,
        ):
            findings.append(finding)
            found(finding)
        return CheckResult(findings)

    def _probing(self) -> "AbstractAsyncContextManager[Pacer]":
        return self._session.probing()

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

        problem = credentials_problem(self._path, environ=self._environ)
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


_CHUNK = 1_000
"""The number of items that a thread reads at a time."""
