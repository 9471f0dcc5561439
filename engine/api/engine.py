"""The methods of `Engine` that change a cohort."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Unpack

from engine.api.records import Records
from engine.errors import UsageError
from engine.model.cohort import Action, Cohort, CohortKey

if TYPE_CHECKING:
    from engine.delivery.stop import StopSwitch
    from engine.report.run_results import FailedRun, NothingToResume, ResumedRuns, RunResult
    from engine.report.state import Abandoned
    from engine.report.sync_result import SyncResult
    from engine.runs.arguments import (
        ActionName,
        Exports,
        FormatName,
        Note,
        Observers,
        OnChanged,
        PlanArguments,
        PlanObservers,
        Reading,
    )
    from engine.runs.resume import Follow
    from engine.runs.snapshots import Snapshots
    from engine.sync.request import SyncObservers


class Engine(Records):
    """The commands on one configuration; created by `Engine.open`.

    Any number of runs share an engine, one after another or at once, under one ceiling. A `cohort`
    is a `Cohort`, or the key of a configured one: then `exports` may be None, and what is left out
    is taken from its table, its workspace included. Options:

    `column`: the uid column's name, its number from 1 without a header, or the dotted path of a
    field; None means the only column. `format`: `auto` detects it by suffix, then by content.
    `header`: whether the first record of a csv or tsv file names the columns. `strip`: whether
    white space around a uid is removed. `exclude`: files with uids that are left out, in the column
    `exclude_column`; see docs/sources.md. `allow`: guards to lift, each `name` or `name=bound`; it
    needs a `reason`, which is kept. `wait_seconds`: how long to wait for another process that holds
    the workspace. The observers are those of `engine.runs.arguments`.
    """

    async def push(
        self,
        exports: "Exports | None",
        cohort: Cohort | str,
        *,
        action: "ActionName | None" = None,
        column: str | None = None,
        format: "FormatName | None" = None,  # noqa: A002 - the option's name
        header: bool | None = None,
        strip: bool | None = None,
        exclude: "Exports" = (),
        exclude_column: str | None = None,
        on_changed: "OnChanged | None" = None,
        record: bool = False,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        dry_run: bool = False,
        **observers: "Unpack[Observers]",
    ) -> "RunResult":
        """Push an export's uids into a cohort, or resume the unfinished push of the same call.

        `action` is `add` by default, `on_changed` `refuse`. With `record` the snapshot of a
        mirrored cohort includes the pushed uids. `allow` can lift only the guard `name`. A
        `dry_run` reads and packs everything, and sends and writes nothing; its result has no run.

        Raises `SourceError` for an export that cannot be read, `UsageError` for a push that
        contradicts an earlier run or the snapshot, `GuardError` for a new name of a known cohort,
        and `LockHeldError` if another process holds the workspace.
        """
        from engine.runs.push import push
        from engine.runs.requests import PushOptions, push_request

        options = PushOptions(
            action=action,
            on_changed=on_changed,
            record=record,
            allow=allow,
            reason=reason,
            wait_seconds=wait_seconds,
        )
        reading: Reading = {"column": column, "format": format, "header": header, "strip": strip}
        async with self._export(
            exports, cohort, reading, observers, exclude=exclude, exclude_column=exclude_column
        ) as export:
            request = await push_request(export, options)
            if not dry_run:
                return await push(request, export.session, export.observers)
            from engine.runs.dry_run import dry_run as push_nothing

            lacking = export.session.config.key_problem(self._configuration.environ)
            return await push_nothing(request, export.session, export.observers, lacking=lacking)

    async def mirror(
        self,
        exports: "Exports | None",
        cohort: Cohort | str,
        *,
        column: str | None = None,
        format: "FormatName | None" = None,  # noqa: A002 - the option's name
        header: bool | None = None,
        strip: bool | None = None,
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
        from engine.runs.mirror import mirror
        from engine.runs.requests import MirrorOptions, mirror_request

        if dry_run and shadow:
            raise UsageError("--dry-run and --shadow exclude each other")
        options = MirrorOptions(
            first_action=first_action,
            allow=allow,
            reason=reason,
            wait_seconds=wait_seconds,
            assume_empty=assume_empty,
            trust=trust,
            is_shadow=shadow,
        )
        reading: Reading = {"column": column, "format": format, "header": header, "strip": strip}
        async with self._export(
            exports, cohort, reading, observers, exclude=exclude, exclude_column=exclude_column
        ) as export:
            request = await mirror_request(export, options)
            if dry_run:
                self._note_lacking_key(export.session.config, export.observers.note)
            sends = not (dry_run or shadow)
            return await mirror(request, export.session, export.observers, sends=sends)

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
            self.project, request, self._session, observers or SyncObservers(), SystemClock()
        )

    async def plan(
        self, exports: "Exports | None", cohort: Cohort | str, **options: "Unpack[PlanArguments]"
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
        from engine.runs.context import run_observers
        from engine.runs.mirror import apply

        session, followed = self._session(self.config), run_observers(observers)
        return await apply(plan, session, followed, first=first, wait_seconds=wait_seconds)

    async def rollback(
        self,
        cohort_id: str | None,
        generation: int,
        *,
        cohort: str | None = None,
        cohort_name: str | None = None,
        first_action: "ActionName" = Action.REMOVE,
        allow: Sequence[str] = (),
        reason: str | None = None,
        wait_seconds: float = 0.0,
        dry_run: bool = False,
        **observers: "Unpack[PlanObservers]",
    ) -> "RunResult":
        """Make a cohort equal to an earlier generation, by a mirror with the same guards.

        `cohort` is the key of a configured cohort, in place of an id. The cohort keeps the name of
        its last mirror, unless another is given. A `dry_run` plans, for `apply`, and sends nothing.
        Raises `UsageError` if the name is unknown, and `LedgerError` if the generation is no longer
        kept.
        """
        from engine.runs.context import run_observers
        from engine.runs.mirror import rollback
        from engine.runs.requests import MirrorOptions, rollback_request

        options = MirrorOptions(
            first_action=first_action, allow=allow, reason=reason, wait_seconds=wait_seconds
        )
        config, cohort_id, table = self._configuration.known(cohort_id, cohort)
        request = rollback_request(cohort_id, generation, options, name=cohort_name, table=table)
        followed = run_observers(observers)
        if dry_run:
            self._note_lacking_key(config, followed.note)
        return await rollback(request, self._session(config), followed, sends=not dry_run)

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
            self._session(self.config),
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
            self._session(self.config),
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
            self._session(self.config),
            wait_seconds=wait_seconds,
            note=note or no_note,
            switch=switch or StopSwitch(),
        )

    def snapshots(
        self,
        cohort_id: str | None = None,
        *,
        cohort: str | None = None,
        shadow: bool = False,
        note: "Note | None" = None,
        switch: "StopSwitch | None" = None,
    ) -> "Snapshots":
        """Return the snapshots of a cohort; with `shadow`, those of its shadow mirrors.

        `cohort` is the key of a configured cohort, in place of an id. Raises `UsageError` for an id
        that no cohort has.
        """
        from engine.delivery.stop import StopSwitch
        from engine.runs.arguments import no_note
        from engine.runs.snapshots import Snapshots

        config, cohort_id, table = self._configuration.known(cohort_id, cohort)
        return Snapshots(
            self._session(config),
            CohortKey(config.workspace.partner, cohort_id, shadow),
            note or no_note,
            switch or StopSwitch(),
            table.guards if table else config.guards,
        )
