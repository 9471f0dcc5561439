"""A mirror from its command to its books: compare, guard, send, and remember what was sent.

Where a push goes on with what an earlier one left, a mirror never does: what the ledger knows is
folded into the snapshot, and a new plan begins from there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from engine.clock import Clock, SystemClock
from engine.config.loading import Config
from engine.delivery.events import Observer
from engine.delivery.http import refuse_unfit
from engine.delivery.sender import StopSwitch
from engine.delivery.stop import Stop
from engine.errors import ExitStatus, LedgerError, UsageError
from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import RunReference
from engine.ledger.sqlite.access import ledger_in
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import Action, Cohort, CohortKey, Operation
from engine.payload.envelope import Envelope
from engine.payload.limit import refuse_narrow_limit
from engine.planning.allowances import Allowance, Guard, flags_to_lift
from engine.report.history import plan_document
from engine.report.result import Opening, RunResult
from engine.runs.closing import enter, run_to_end
from engine.runs.plan_execution import Extent, PlanExecution
from engine.runs.planner import MirrorRequest, Planner
from engine.runs.session import Desk
from engine.snapshot.baseline import Base, find_base, install
from engine.snapshot.generation_source import GenerationSpec
from engine.snapshot.store import SnapshotStore
from engine.storage.files import digest_of
from engine.storage.paths import operation_path

Planned = Callable[[dict[str, Any]], None]


class Watching(TypedDict, total=False):
    """The arguments of `Watch`."""

    observe: Observer
    opened: Callable[[Opening], None]
    planned: Planned
    note: Callable[[str], None]
    switch: StopSwitch | None
    clock: Clock | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who looks on while a mirror works, and what it takes from outside."""

    observe: Observer = lambda _: None
    opened: Callable[[Opening], None] = lambda _: None
    planned: Planned = lambda _: None
    """Hears of the plan before anything is sent."""
    note: Callable[[str], None] = lambda _: None
    """Hears, in words for people, what it is at."""
    switch: StopSwitch | None = None
    clock: Clock | None = None

    def desk(self, config: Config, key: CohortKey) -> Desk:
        """Return the desk at which they look on."""
        return Desk(
            config,
            key,
            self.observe,
            self.note,
            self.switch or StopSwitch(),
            self.clock or SystemClock(),
        )


async def mirror(
    request: MirrorRequest, config: Config, *, sends: bool = True, **watch: Unpack[Watching]
) -> RunResult:
    """Make a cohort equal to an export by sending what differs from what was acknowledged.

    Without `sends` nothing is sent, and the plan is kept for `apply`. The other arguments are those
    of `Watch`. Returns the books of the run, however it ended. Raises a `CohortSyncError` for what
    keeps it from beginning: the configuration, the state folder, a snapshot that is lost.
    """
    looking = Watch(**watch)
    key = CohortKey(config.workspace.partner, request.cohort.id, request.is_shadow)
    desk = looking.desk(config, key)
    _refuse_narrow(config, request.cohort)
    if sends:
        refuse_unfit(config.workspace)
    async with desk.open(request.wait_seconds) as (ledger, store):
        base = await find_base(store, assume_empty=request.assume_empty, trust=request.trust)
        if not request.assume_empty:
            await ledger.refuse_lost()
        return await _plan_and_send(request, desk, ledger, store, base, looking, sends=sends)


async def rollback(  # noqa: PLR0913 - what to make of which cohort, and how
    request: Callable[[GenerationSpec, Cohort], MirrorRequest],
    cohort_id: str,
    generation: int,
    config: Config,
    *,
    name: str | None = None,
    wait_seconds: float = 0.0,
    sends: bool = True,
    **watch: Unpack[Watching],
) -> RunResult:
    """Make a cohort what it was at an earlier generation, by a mirror of that.

    `request` is given that generation to read, and the cohort, which keeps its name unless
    another is given. Raises as `mirror` does, and `UsageError` where nobody knows the name.
    """
    looking = Watch(**watch)
    key = CohortKey(config.workspace.partner, cohort_id)
    desk = looking.desk(config, key)
    if sends:
        refuse_unfit(config.workspace)
    async with desk.open(wait_seconds) as (ledger, store):
        base = await find_base(store)
        snapshot = await store.verified(generation)
        last = await ledger.plans.last_mirror(key)
        if name is None and last is None:
            raise UsageError(
                f"cohort {cohort_id} was never mirrored, so that its name is not known",
                hint="pass --cohort-name",
            )
        known = (last.cohort_name, last.cohort_description) if last else ("", None)
        cohort = Cohort(cohort_id, name or known[0], known[1])
        _refuse_narrow(config, cohort)
        asked = request(GenerationSpec(generation, snapshot.path), cohort)
        return await _plan_and_send(asked, desk, ledger, store, base, looking, sends=sends)


def _refuse_narrow(config: Config, cohort: Cohort) -> None:
    """Raise `UsageError` for a limit that leaves no room for a uid, before anything is done."""
    for action in Action:
        envelope = Envelope(config.workspace.partner, cohort, action)
        refuse_narrow_limit(envelope, config.packing.payload_bytes)


async def _plan_and_send(  # noqa: PLR0913, PLR0917 - what to do, and where
    request: MirrorRequest,
    desk: Desk,
    ledger: Ledger,
    store: SnapshotStore,
    base: Base,
    looking: Watch,
    *,
    sends: bool,
) -> RunResult:
    execution = PlanExecution(desk, ledger, store, request.cohort, is_placed=base.origin is None)
    plan: dict[str, Any] = {}

    async def work() -> Stop | None:
        state = await enter(execution, desk.begin(ledger, request))
        looking.opened(desk.opening(state, request.cohort))
        planner = Planner(
            *(request, desk.config, desk.key, store, ledger, desk.clock, desk.switch, desk.note)
        )
        record = await planner.plan(state, base)
        plan.update(plan_document(record))
        looking.planned(plan)
        if record.is_blocked:
            return _guarded(record)
        if not (sends or request.is_shadow):
            digests = await asyncio.to_thread(_digests, store, state.name, record)
            await ledger.plans.seal(state.run, digests)
            execution.extent = Extent.NONE if base.origin is None else Extent.SHOWN
            return None
        number = await install(store, base)
        execution.is_placed = True
        if number is not None:
            await ledger.plans.set_generation(state.run, number)
        if request.is_shadow:
            planned = {operation: counts.planned for operation, counts in record.operations.items()}
            await store.move_shadow(state.run, state.name, planned)
            execution.extent = Extent.SHADOW
            return None
        return await execution.send(record)

    result = await run_to_end(execution, work)
    return result if sends else replace(result, plan=plan)


async def apply(
    plan: str,
    config: Config,
    *,
    first: int | None = None,
    wait_seconds: float = 0.0,
    **watch: Unpack[Watching],
) -> RunResult:
    """Send a plan as it was made, or its `first` uids that are not sent yet.

    The other arguments are those of `Watch`. Raises `UsageError` if there is no such plan, if a
    guard blocks it, if all of it is sent, or if the snapshot has moved since by anything but this
    plan.
    """
    looking = Watch(**watch)
    folder = config.place.folder
    if (path := ledger_in(folder)) is None:
        raise _no_plan(plan)
    with LedgerReader.open(path) as reader:
        entry = reader.history.entry(plan)
    if entry is None or not entry.is_mirror:
        raise _no_plan(plan)
    if entry.partner != config.workspace.partner:
        raise UsageError(
            f"plan {plan} is of partner {entry.partner}, by the configuration "
            f"it is {config.workspace.partner} now"
        )
    refuse_unfit(config.workspace)
    cohort = Cohort(entry.cohort_id, entry.cohort_name, entry.cohort_description)
    _refuse_narrow(config, cohort)
    desk = looking.desk(config, CohortKey(entry.partner, entry.cohort_id))
    async with desk.open(wait_seconds) as (ledger, store):
        await store.catch_up()
        record = await ledger.plans.open_plan(entry.number)
        current = await store.current()
        if record is None:
            raise _closed(plan, await ledger.plans.plan_of(entry.number))
        if (current[0].number if current else None) != record.generation:
            raise UsageError(
                f"plan {plan} is out of date: the snapshot of cohort {cohort.id} has moved since",
                hint="make a new plan",
            )
        later = await ledger.plans.overtaken_by(entry.number, desk.key)
        if later is not None:
            raise UsageError(
                f"plan {plan} is out of date: run {later} has sent to the cohort since, or found "
                "nothing to send",
                hint="make a new plan",
            )
        sealed = await ledger.plans.seals(entry.number)
        if sealed != await asyncio.to_thread(_digests, store, plan, record):
            raise LedgerError(
                f"the uids of plan {plan} are not what they were when it was made",
                hint="make a new plan",
            )
        extent = Extent.REST if first is None else Extent.PART
        execution = PlanExecution(desk, ledger, store, cohort, is_placed=True, extent=extent)

        async def work() -> Stop | None:
            state = await enter(
                execution, desk.begin_execution(ledger, RunReference(entry.number, plan))
            )
            settled = await ledger.runs.uids_settled(state.run)
            looking.opened(desk.opening(state, cohort, settled))
            looking.planned(plan_document(record))
            # What was sent since the plan was made is not among what it lets wait.
            stop = await execution.wait_to_settle(since=entry.number)
            return stop or await execution.send(record, first)

        return await run_to_end(execution, work)


def _digests(store: SnapshotStore, plan: str, record: PlanRecord) -> dict[Operation, bytes]:
    """Return the digest of each file that a plan is sent from; one that is lost has none."""
    paths = {
        operation: operation_path(store.plan_folder(plan), operation)
        for operation, n in record.operations.items()
        if n.planned
    }
    return {operation: digest_of(path) for operation, path in paths.items() if path.exists()}


def _closed(plan: str, record: PlanRecord | None) -> UsageError:
    """Say why nothing more of a plan is to be sent."""
    if record is not None and record.is_blocked:
        return UsageError(
            f"plan {plan} is not to be sent: a guard has stopped it",
            hint="look at the export; then plan again, with --allow",
        )
    return UsageError(
        f"plan {plan} is done with: it was sent, or broken off on the way",
        hint=f"`cohortsync show {plan}` tells what became of it; make a new plan",
    )


def _no_plan(plan: str) -> UsageError:
    return UsageError(f"no plan {plan} here", hint="`cohortsync runs` lists plans, too")


def _guarded(record: PlanRecord) -> Stop:
    blocking = [told for told in record.verdicts if told["verdict"] == "blocks"]
    reason = "; ".join(f"{told['guard']}: {told['sentence']}" for told in blocking)
    overrides = [told["override"] for told in blocking if told["override"]]
    hint = "; ".join(told["hint"] for told in blocking if told["hint"]) or "look at the export"
    if len(overrides) == len(blocking):
        given = [Allowance(Guard(told["guard"]), told["bound"]) for told in record.allowances]
        why = next((told["reason"] for told in record.allowances), None)
        hint += f"; if it is right: {flags_to_lift(overrides, given, why)}"
    return Stop(ExitStatus.GUARDED, reason, hint)
