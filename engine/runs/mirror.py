"""A mirror, from its request to its accounts: compare, judge, send, and record what was sent.

A push resumes an unfinished push; a mirror does not resume. The content of the ledger is folded
into the snapshot, and a new plan is based on that.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engine.config.loading import Config
from engine.delivery.http import refuse_unfit
from engine.delivery.stop import Stop
from engine.errors import ExitStatus, LedgerError, UsageError
from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import MIRROR, RunCommand, RunKey, RunReference, RunState
from engine.ledger.run_records import RunFilter
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import Action, Cohort, CohortKey, Operation
from engine.model.status import RunStatus
from engine.payload.envelope import Envelope
from engine.payload.limit import refuse_narrow_limit
from engine.planning.allowances import Allowance, Guard, flags_to_lift
from engine.report.history import plan_document
from engine.report.run_names import candidates, the_one
from engine.report.run_results import RunResult
from engine.runs.closing import enter, run_to_end
from engine.runs.context import NOBODY, RunContext, RunObservers, entered, opening_of
from engine.runs.plan_execution import Extent, PlanExecution
from engine.runs.planner import MirrorRequest, Planner
from engine.runs.ports import Ledger
from engine.runs.precedence import FIRST, Precedence
from engine.runs.session import WorkspaceSession
from engine.snapshot.baseline import Base, find_base, install
from engine.snapshot.generation_source import GenerationSpec
from engine.snapshot.store import SnapshotStore
from engine.source.protocol import files_of
from engine.storage.files import digest_of
from engine.storage.paths import operation_path


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """The generation that a cohort is to be made equal to."""

    cohort_id: str
    generation: int
    mirror: Callable[[GenerationSpec, Cohort], MirrorRequest]
    """Returns the mirror's request, given the generation to read."""
    name: str | None = None
    """The cohort's name; None for the name of its last mirror."""
    wait_seconds: float = 0.0


async def mirror(
    request: MirrorRequest,
    session: WorkspaceSession,
    observers: RunObservers = NOBODY,
    *,
    sends: bool = True,
    precedence: Precedence = FIRST,
) -> RunResult:
    """Make a cohort equal to an export by sending what differs from what was acknowledged.

    Without `sends` nothing is sent, and the plan is kept for `apply`. Returns the accounts of the
    run, even if it failed. Raises a `CohortSyncError` if it cannot begin: because of the
    configuration, the state folder, a lost snapshot, or another process that works on the cohort
    or, unless the run waits for it, sends.
    """
    config = session.config
    key = CohortKey(config.workspace.partner, request.cohort.id, request.is_shadow)
    context = RunContext(session, key, observers, precedence)
    _refuse_narrow(config, request.cohort)
    if sends:
        refuse_unfit(config.workspace)
    may_send = sends and not request.is_shadow
    async with context.open(request.wait_seconds, sends=may_send) as (ledger, store):
        base = await find_base(store, assume_empty=request.assume_empty, trust=request.trust)
        if not request.assume_empty:
            await ledger.refuse_lost()
        run = _MirrorRun(context, ledger, store, request, base)
        return await run.to_end(sends=sends)


async def rollback(
    request: RollbackRequest,
    session: WorkspaceSession,
    observers: RunObservers = NOBODY,
    *,
    sends: bool = True,
) -> RunResult:
    """Make a cohort equal to an earlier generation, by a mirror of that generation.

    Raises as `mirror` does, and `UsageError` if the cohort's name is unknown.
    """
    config = session.config
    key = CohortKey(config.workspace.partner, request.cohort_id)
    context = RunContext(session, key, observers)
    if sends:
        refuse_unfit(config.workspace)
    async with context.open(request.wait_seconds, sends=sends) as (ledger, store):
        base = await find_base(store)
        snapshot = await store.verified(request.generation)
        last = await ledger.plans.last_mirror(key)
        if request.name is None and last is None:
            raise UsageError(
                f"cohort {key.cohort_id} was never mirrored, so that its name is not known",
                hint="pass --cohort-name",
            )
        known = (last.cohort_name, last.cohort_description) if last else ("", None)
        cohort = Cohort(key.cohort_id, request.name or known[0], known[1])
        _refuse_narrow(config, cohort)
        rows = await store.compute(lambda interruption: store.as_file(snapshot, interruption))
        asked = request.mirror(GenerationSpec(request.generation, rows.path), cohort)
        return await _MirrorRun(context, ledger, store, asked, base).to_end(sends=sends)


def _refuse_narrow(config: Config, cohort: Cohort) -> None:
    """Raise `UsageError` for a limit that leaves no room for a uid, before anything is done."""
    for action in Action:
        envelope = Envelope(config.workspace.partner, cohort, action)
        refuse_narrow_limit(envelope, config.packing.payload_bytes)


async def _begin(context: RunContext, ledger: Ledger, request: MirrorRequest) -> RunState:
    """Record a new run; an unfinished run of the same command is not resumed."""
    config, source = context.config, request.source
    key = RunKey(
        config.place.endpoint,
        config.workspace.id,
        config.workspace.partner,
        request.cohort,
        None,
        source.identity,
    )
    command = RunCommand(request.spec, files_of(source))
    return await ledger.runs.begin_new(key, command, context.limits)


@dataclass(frozen=True, slots=True)
class _MirrorRun:
    """A mirror whose baseline is known."""

    context: RunContext
    ledger: Ledger
    store: SnapshotStore
    request: MirrorRequest
    base: Base

    async def to_end(self, *, sends: bool) -> RunResult:
        """Plan, and send if it `sends`; return the accounts, even if the run fails."""
        context, request = self.context, self.request
        execution = PlanExecution(context, self.ledger, self.store, request.cohort)
        execution.is_installed = self.base.origin is None
        plan: dict[str, Any] = {}

        async def work() -> Stop | None:
            return await self._work(execution, plan, sends=sends and not request.is_shadow)

        with execution.sender:
            result = await run_to_end(execution, work)
        return result if sends else replace(result, plan=plan)

    async def _work(
        self, execution: PlanExecution, plan: dict[str, Any], *, sends: bool
    ) -> Stop | None:
        """Do the work; `plan` receives the plan in the form of `--json`."""
        context, ledger, store, request, base = (
            *(self.context, self.ledger, self.store),
            *(self.request, self.base),
        )
        state = await enter(execution, _begin(context, ledger, request))
        opening = opening_of(context.config, request.cohort, MIRROR)
        context.observers.opened(entered(opening, state))
        record = await Planner(request, context, ledger, store).plan(state, base)
        plan.update(plan_document(record))
        context.observers.planned(plan)
        if record.is_blocked:
            return _guarded(record, request.synced_as)
        if not (sends or request.is_shadow):
            digests = await asyncio.to_thread(_digests, store, state.run.name, record)
            await ledger.plans.seal(state.run.number, digests)
            execution.extent = Extent.NONE if base.origin is None else Extent.SHOWN
            return None
        number = await install(store, base)
        execution.is_installed = True
        if number is not None:
            await ledger.plans.set_generation(state.run.number, number)
        if request.is_shadow:
            planned = {operation: counts.planned for operation, counts in record.operations.items()}
            await store.move_shadow(state.run.number, state.run.name, planned)
            execution.extent = Extent.SHADOW
            return None
        return await execution.send(record, request.wait_seconds)


async def apply(
    plan: str,
    session: WorkspaceSession,
    observers: RunObservers = NOBODY,
    *,
    first: int | None = None,
    wait_seconds: float = 0.0,
) -> RunResult:
    """Send a plan as it was made, or its `first` uids that are not sent yet.

    Raises as `mirror` does, and `UsageError` if there is no such plan, if a guard blocks it, if all
    of it is sent, or if anything but this plan has changed the snapshot since.
    """
    config = session.config
    reference, cohort = await asyncio.to_thread(_find_plan, plan, config)
    run, plan = reference.number, reference.name
    refuse_unfit(config.workspace)
    _refuse_narrow(config, cohort)
    context = RunContext(session, CohortKey(config.workspace.partner, cohort.id), observers)
    async with context.open(wait_seconds, sends=True) as (ledger, store):
        await store.catch_up()
        record = await _current_plan(RunReference(run, plan), ledger, store)
        execution = PlanExecution(context, ledger, store, cohort)
        execution.extent = Extent.REST if first is None else Extent.PART

        async def work() -> Stop | None:
            begun = ledger.runs.begin_execution(RunReference(run, plan), context.limits)
            state = await enter(execution, begun)
            await _announce_opening(context, ledger, state, cohort)
            context.observers.planned(plan_document(record))
            # The uids that the plan delays do not include those sent since it was made.
            stop = await execution.wait_to_settle(since=run)
            return stop or await execution.send(record, wait_seconds, first)

        with execution.sender:
            return await run_to_end(execution, work)


async def _announce_opening(
    context: RunContext, ledger: Ledger, state: RunState, cohort: Cohort
) -> None:
    settled = await ledger.runs.uids_settled(state.run.number)
    opening = opening_of(context.config, cohort, MIRROR)
    context.observers.opened(entered(opening, state, sum(settled), settled))


def _find_plan(plan: str, config: Config) -> tuple[RunReference, Cohort]:
    """Return the run of the plan that `plan` means (see `run_names`), and its cohort.

    Raises `UsageError` if there is no such plan.
    """
    if (path := ledger_in(config.place.folder)) is None:
        raise _no_plan(plan)
    with LedgerReader.open(path) as ledger:
        found = [(path, name) for name in candidates(ledger.history, plan, _PLANS)]
        _, name = the_one(plan, found, lambda: _no_plan(plan), "plan")
        entry = ledger.history.entry(name)
    if entry is None or not entry.is_mirror:
        raise _no_plan(plan)
    if entry.partner != config.workspace.partner:
        raise UsageError(
            f"plan {name} is of partner {entry.partner}, by the configuration "
            f"it is {config.workspace.partner} now"
        )
    cohort = Cohort(entry.cohort_id, entry.cohort_name, entry.cohort_description)
    return RunReference(entry.number, name), cohort


_PLANS = RunFilter(is_mirror=True, statuses=(RunStatus.PLANNED, RunStatus.CANARY))


async def _current_plan(run: RunReference, ledger: Ledger, store: SnapshotStore) -> PlanRecord:
    """Return a plan that may be sent as it was made; raises an error if it may not be sent."""
    record = await ledger.plans.open_plan(run.number)
    current = await store.current()
    if record is None:
        raise _closed(run.name, await ledger.plans.plan_of(run.number))
    if (current[0].number if current else None) != record.generation:
        raise UsageError(
            f"plan {run.name} is out of date: the snapshot of cohort {store.key.cohort_id} has "
            "moved since",
            hint="make a new plan",
        )
    later = await ledger.plans.overtaken_by(run.number, store.key)
    if later is not None:
        raise UsageError(
            f"plan {run.name} is out of date: run {later} has sent to the cohort since, or found "
            "nothing to send",
            hint="make a new plan",
        )
    sealed = await ledger.plans.seals(run.number)
    if sealed != await asyncio.to_thread(_digests, store, run.name, record):
        raise LedgerError(
            f"the uids of plan {run.name} are not what they were when it was made",
            hint="make a new plan",
        )
    return record


def _digests(store: SnapshotStore, plan: str, record: PlanRecord) -> dict[Operation, bytes]:
    """Return the digest of each file that a plan is sent from; a lost file has no digest."""
    paths = {
        operation: operation_path(store.plan_folder(plan), operation)
        for operation, n in record.operations.items()
        if n.planned
    }
    return {operation: digest_of(path) for operation, path in paths.items() if path.exists()}


def _closed(plan: str, record: PlanRecord | None) -> UsageError:
    """Return the error that explains why no more of a plan is to be sent."""
    if record is not None and record.is_blocked:
        return UsageError(
            f"plan {plan} is not to be sent: a guard has stopped it",
            hint="look at the export; then plan again, with --allow",
        )
    return UsageError(
        f"plan {plan} is closed: it was sent, or an execution of it ended early",
        hint=f"`cohortsync show {plan}` shows its result; make a new plan",
    )


def _no_plan(plan: str) -> UsageError:
    return UsageError(f"no plan {plan} here", hint="`cohortsync plans` lists them")


def _guarded(record: PlanRecord, synced_as: str | None) -> Stop:
    blocking = [each for each in record.verdicts if each["verdict"] == "blocks"]
    reason = "; ".join(f"{each['guard']}: {each['sentence']}" for each in blocking)
    overrides = [each["override"] for each in blocking if each["override"]]
    hint = "; ".join(each["hint"] for each in blocking if each["hint"]) or "look at the export"
    if len(overrides) == len(blocking):
        given = [Allowance(Guard(each["guard"]), each["bound"]) for each in record.allowances]
        why = next((each["reason"] for each in record.allowances), None)
        hint += f"; if it is right: {flags_to_lift(overrides, given, why, synced_as)}"
    return Stop(ExitStatus.GUARDED, reason, hint)
