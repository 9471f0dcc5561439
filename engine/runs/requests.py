"""The requests of runs, made of what a caller names and of what the configuration says.

A cohort is given as a `Cohort`, or it is configured: then its table has what the caller leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from engine.config.cohort_settings import CohortSettings
from engine.delivery.stop import StopSwitch
from engine.errors import UsageError
from engine.model.cohort import Action, Cohort, check_id
from engine.model.time_of_day import local_time
from engine.planning.allowances import read_allowances, read_push_allowances
from engine.planning.settings import GuardSettings
from engine.runs.arguments import ActionName, Exports, OnChanged, Reading
from engine.runs.configured_export import (
    ConfiguredExport,
    Surroundings,
    excluding_on,
    resolve,
)
from engine.runs.context import RunObservers
from engine.runs.exports import (
    excluding,
    open_desired,
    open_exclusion,
    open_push,
    options_of,
    spec_of,
)
from engine.runs.interruptible import read_or_stop
from engine.runs.push_admission import PushRequest
from engine.runs.queries import CohortQueries, Queries
from engine.runs.session import WorkspaceSession
from engine.source.spec import SourceSpec

if TYPE_CHECKING:
    from engine.runs.mirror import RollbackRequest
    from engine.runs.planner import MirrorRequest


@dataclass(frozen=True, slots=True)
class CohortExport:
    """A cohort, the export that is to be sent to it, and who observes that."""

    session: WorkspaceSession
    """The session of the cohort's workspace."""
    cohort: Cohort
    settings: CohortSettings | None
    """The cohort's table in the configuration; None if it was named without one."""
    exports: Exports | None
    """None for those of the table."""
    reading: Reading
    """How to read them; None stands for what the table says."""
    exclude: Exports
    """Lists of uids that are left out; the table may have others in their place."""
    exclude_column: str | None
    observers: RunObservers
    queries: Queries
    """The queries of this command; whoever makes this closes them."""

    @property
    def switch(self) -> StopSwitch:
        """The switch that stops the run."""
        return self.observers.switch or self.session.switch

    @property
    def guards(self) -> GuardSettings | None:
        """The limits of the cohort; None for those of the configuration."""
        return self.settings.guards if self.settings else None

    async def spec(self, action: Action | None = None) -> SourceSpec:
        """Return which files to read, once they are there if the cohort's table says to wait.

        `action` is that of a push, None for a mirror. An export that is a table of a lake has the
        version to read, a query is run.
        Raises `UsageError` if no export is named or an exclusion list contradicts the table or the
        action, and as `resolve` does.
        """
        table = self.settings
        if table is not None:
            if table.exclude is not None and (self.exclude or self.exclude_column):
                raise UsageError(
                    f"cohort {table.key!r} has an exclusion list: --exclude would replace it",
                    hint=f"name all lists in [cohorts.{table.key}.exclude]",
                )
            spec = await self._configured(table, action)
        elif self.exports is not None:
            spec = spec_of(self.exports, self.reading)
        else:
            raise UsageError("no export is named", hint="only a configured cohort has its own")
        spec = excluding(spec, self.exclude, self.exclude_column, action or Action.ADD)
        return await read_or_stop(spec.pinned, self.switch)

    async def _configured(self, table: CohortSettings, action: Action | None) -> SourceSpec:
        """Return the export of the table, or the one that is named, with the table's exclusion."""
        export = ConfiguredExport.of(table)
        export = replace(export, options=options_of(self.reading, export.options))
        if action is Action.REMOVE:
            export = replace(export, exclude=None)  # It lists who is not added.
        clock, note, switch = self.session.clock, self.observers.note, self.switch
        day = local_time(clock.stamp().utc_ns, self.session.config.sync.time_zone).date()
        pattern = table.guards.uid_pattern
        queries = CohortQueries(self.queries, self.cohort, action, switch, note, pattern)
        within = Surroundings(clock, switch, note, queries)
        if self.exports is None:
            if table.mode == "changes" and action is not None:
                raise UsageError(
                    f"cohort {table.key!r} is not pushed to without an export: the rows of its "
                    "query say add or remove",
                    hint="`cohortsync mirror` does what they say; or name an export",
                )
            return await resolve(export, day, within)
        if table.mode == "changes" and action is None:
            raise UsageError(
                f'cohort {table.key!r} has mode = "changes": only its query says add or remove',
                hint="name no export; or `cohortsync push` with --action sends one",
            )
        spec = spec_of(self.exports, self.reading, table.reading)
        return await excluding_on(export, spec, day, within)

    def note_name(self) -> None:
        """Pass on a warning about the cohort's name."""
        if self.cohort.warning:
            self.observers.note(self.cohort.warning, label="note")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """The arguments of `Engine.push` that are not about the export."""

    action: ActionName | None
    on_changed: OnChanged | None
    record: bool
    allow: Sequence[str]
    reason: str | None
    wait_seconds: float

    def action_on(self, settings: CohortSettings | None) -> Action:
        """Return the action; raises `UsageError` if the table of a mirrored cohort has none."""
        if self.action is not None:
            return Action(self.action)
        if settings is None:
            return Action.ADD
        if settings.push_action is None:
            raise UsageError(
                f'cohort {settings.key!r} has mode = "{settings.mode}": a push to it needs an '
                "--action",
                hint="`cohortsync mirror` sends what its export changes",
            )
        return settings.push_action


async def push_request(export: CohortExport, options: PushOptions) -> PushRequest:
    """Open the export of a push, and return the request.

    Raises `UsageError` for invalid arguments, and as `open_push` and `CohortExport.spec`.
    """
    table = export.settings
    on_changed = options.on_changed or (table.on_changed if table else "refuse")
    action = options.action_on(table)
    request = partial(
        PushRequest,
        cohort=export.cohort,
        action=action,
        restart_if_changed=on_changed == "restart",
        allowances=read_push_allowances(options.allow, options.reason),
        reason=options.reason,
        records=options.record,
        wait_seconds=options.wait_seconds,
        guards=export.guards,
    )
    source, spec = await open_push(
        await export.spec(action),
        note=export.observers.note,
        switch=export.switch,
        rereadable=on_changed == "restart",
    )
    export.note_name()
    return request(source, spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """The arguments of `Engine.mirror` and `Engine.rollback` that are not about the export."""

    first_action: ActionName
    allow: Sequence[str]
    reason: str | None
    wait_seconds: float
    assume_empty: bool = False
    trust: int | None = None
    is_shadow: bool = False

    def applied(self, guards: GuardSettings | None) -> "partial[MirrorRequest]":
        """Return the request, less its source, spec and cohort."""
        from engine.runs.planner import MirrorRequest  # noqa: PLC0415 - a push needs no planner

        return partial(
            MirrorRequest,
            first_action=Action(self.first_action),
            allowances=read_allowances(self.allow, self.reason),
            reason=self.reason,
            assume_empty=self.assume_empty,
            trust=self.trust,
            is_shadow=self.is_shadow,
            wait_seconds=self.wait_seconds,
            guards=guards,
        )


async def mirror_request(export: CohortExport, options: MirrorOptions) -> "MirrorRequest":
    """Open the export of a mirror, and return the request.

    Raises `UsageError` for invalid arguments, and as `open_desired` and `CohortExport.spec`.
    """
    table = export.settings
    if options.assume_empty and options.trust is not None:
        raise UsageError("--assume-empty and --trust exclude each other")
    if table is not None and table.push_action is not None:
        raise UsageError(
            f'cohort {table.key!r} has mode = "{table.mode}": it is not mirrored',
            hint='`cohortsync push` sends its export; mode = "mirror" would make it equal to that',
        )
    request = options.applied(export.guards)
    spec, note = await export.spec(), export.observers.note
    listed = None
    if spec.exclude is not None:
        listed = await open_exclusion(spec.exclude, note=note, switch=export.switch)
    source = await open_desired(spec, note=note, switch=export.switch)
    export.note_name()
    return request(source, spec, export.cohort, exclude=listed)


def rollback_request(
    cohort_id: str,
    generation: int,
    options: MirrorOptions,
    *,
    name: str | None,
    table: CohortSettings | None,
) -> "RollbackRequest":
    """Return the request of a rollback; `table` is that of the cohort, if it is configured.

    Raises `UsageError` for invalid arguments.
    """
    from engine.runs.mirror import RollbackRequest  # noqa: PLC0415 - a push needs no planner

    check_id(cohort_id)
    request = options.applied(table.guards if table else None)
    return RollbackRequest(
        cohort_id,
        generation,
        lambda spec, cohort: request(spec.open(), spec, cohort),
        name,
        options.wait_seconds,
    )
