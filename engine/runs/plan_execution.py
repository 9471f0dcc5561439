"""The work of one process on a mirror's plan: its segments are sent, folded and accounted for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto

from engine.delivery.stop import Stop
from engine.errors import ExitStatus
from engine.ledger.plan_records import PlanRecord, PlanSegment
from engine.ledger.records import RunState
from engine.model.cohort import Cohort, Operation
from engine.model.status import RunStatus
from engine.pacing.pacer import PaceRecord
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter, OperationSection
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.report.accounts import Accounts, exit_status_of, partial_reason
from engine.runs.closing import End, status_of
from engine.runs.context import RunContext
from engine.runs.ports import Ledger
from engine.runs.sending import RunSender
from engine.snapshot.export_places import ExportPlaces
from engine.snapshot.operation_uids import operation_blocks
from engine.snapshot.store import SnapshotStore
from engine.storage.paths import operation_path


class Extent(Enum):
    """How much of a plan an execution sends."""

    ALL = auto()
    REST = auto()
    """The rest that earlier executions did not send."""
    PART = auto()
    """Its first uids; the plan stays open."""
    NONE = auto()
    """Nothing; the plan stays open."""
    SHOWN = auto()
    """Nothing; the plan cannot be applied: its baseline is not the current snapshot."""
    SHADOW = auto()
    """Nothing, ever; the shadow's snapshot is updated as if all had been accepted."""


class PlanExecution:
    """The work of one process on one plan."""

    def __init__(
        self, context: RunContext, ledger: Ledger, store: SnapshotStore, cohort: Cohort
    ) -> None:
        self.ledger = ledger
        self.state: RunState | None = None
        self.is_installed = True
        """Whether the plan's baseline is the current snapshot: it may still be a candidate."""
        self.extent = Extent.ALL
        self.sender = RunSender(context, ledger)
        self._context = context
        self._store = store
        self._cohort = cohort
        self._limit = Limit.of(context.config.packing.payload_bytes)
        """A 413 on one operation lowers the limit for the next."""

    @property
    def _entered(self) -> RunState:
        """The state of the plan's run, which is recorded."""
        if self.state is None:
            raise RuntimeError("a plan is worked on once its run is entered")
        return self.state

    async def send(
        self, record: PlanRecord, wait_seconds: float, first: int | None = None
    ) -> Stop | None:
        """Send the rest of the plan, or the `first` uids of the rest; return the stop, if any.

        Raises `LockHeldError` if another process sends for longer than `wait_seconds`.
        """
        left = math.inf if first is None else first
        places = {operation: await self._done(operation) for operation in Operation}
        for is_held in (False, True):
            parts = []
            for segment in record.segments:
                start = places[segment.operation]
                end = int(min(segment.end, start + left))
                if segment.is_held is is_held and start < end:
                    parts.append((replace(segment, end=end), start))
                    places[segment.operation] = end
                    left -= end - start
            if not parts:
                continue
            stop = await self.wait_to_settle() if is_held else None
            if stop is None:
                await self.sender.acquire(wait_seconds)
                stop = await self._deliver(parts)
            if stop is not None:
                return stop
        return None

    async def _done(self, operation: Operation) -> int:
        return await self.ledger.plans.next_place(self._entered.run.number, operation)

    async def _deliver(self, parts: Sequence[tuple[PlanSegment, int]]) -> Stop | None:
        """Deliver segments, each from its start place, together: one acceptance proves them all."""
        entered = self._entered
        state = await self.ledger.runs.progress(entered.run, entered.execution)
        return await self.sender.deliver(state, self._limit, self._batches(parts))

    def _batches(self, parts: Sequence[tuple[PlanSegment, int]]) -> Iterator[Batch]:
        config = self._context.config
        folder = self._store.plan_folder(self._entered.run.name)
        places = ExportPlaces(folder)
        for segment, start in parts:
            operation = segment.operation
            is_add = operation is Operation.ADD
            cutter = Cutter(
                Envelope(config.workspace.partner, self._cohort, operation.action),
                self._limit,
                section=OperationSection(
                    operation, start, segment.were_rejected, places.find if is_add else None
                ),
            )
            path = operation_path(folder, operation)
            yield from cutter.batches(operation_blocks(path, start, segment.end))

    async def wait_to_settle(self, since: int | None = None) -> Stop | None:
        """Wait until the API has applied the changes of other runs, or of those after run `since`.

        Runs of other cohorts may send meanwhile.
        """
        recent = await self._store.recent(but=self._entered.run.number)
        is_concerned = since is None or any(run > since for run in recent.runs)
        seconds = recent.seconds if is_concerned else 0.0
        return await self.sender.wait_to_settle(seconds, self._entered)

    @property
    def pace(self) -> PaceRecord | None:
        """How this process used the ceiling; None if it did not begin to send."""
        return self.sender.pace

    async def fold(self, accounts: Accounts | None, stop: Stop | None) -> None:
        """Fold what was sent into the snapshot; close the plan unless it is still to be applied."""
        self.sender.release()  # The fold takes long if the snapshot is large.
        run = self._entered.run.number
        stays_open = stop is None and self.extent in {Extent.NONE, Extent.PART}
        if self.is_installed:
            await self._store.catch_up(stays_open=run if stays_open else None)
        if not (stays_open and accounts and accounts.uids.pending):
            await self.ledger.plans.close(run)

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Return how the run ends."""
        extent = self.extent
        if stop is not None:
            hint = stop.hint
            if (
                extent in {Extent.REST, Extent.PART}
                and stop.exit_status is not ExitStatus.UNBALANCED
            ):
                hint = "make a new plan: it goes on from what was acknowledged"
            status = status_of(stop.exit_status, stop.error)
            return End(status, stop.exit_status, stop.reason, hint)
        uids = accounts.uids
        apply_rest = f"`cohortsync apply {self._entered.run.name}` sends "
        if extent in {Extent.NONE, Extent.SHOWN, Extent.SHADOW}:
            hint = f"{apply_rest}it" if extent is Extent.NONE and uids.pending else None
            status = RunStatus.SHADOW if extent is Extent.SHADOW else RunStatus.PLANNED
            return End(status, ExitStatus.ACCEPTED, hint=hint)
        known = accounts.mirror.known_rejects if accounts.mirror else 0
        settings = self._context.config.accounting
        is_part = extent is Extent.PART and uids.pending > 0
        judged = replace(uids, pending=0) if is_part else uids
        exit_status = exit_status_of(judged, accounts.rows, settings, known)
        status = RunStatus.CANARY if is_part else status_of(exit_status)
        if exit_status is ExitStatus.INCOMPLETE:
            hint = "mirror again: the next plan settles them"
            return End(status, exit_status, "some uids are not confirmed", hint)
        reason = None
        if exit_status is ExitStatus.PARTIAL:
            reason = partial_reason(uids, accounts.rows, accounts.run, known)
        return End(status, exit_status, reason, f"{apply_rest}the rest" if is_part else None)
