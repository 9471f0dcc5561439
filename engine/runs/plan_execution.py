"""One process's work on a mirror's plan: sent segment by segment, folded, and accounted for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum, auto

from engine.delivery.sender import Sender, wait_or_stop
from engine.delivery.stop import Stop
from engine.errors import ExitStatus
from engine.ledger.plan_records import PlanRecord, PlanSegment
from engine.ledger.records import RunState
from engine.ledger.sqlite.ledger import Ledger
from engine.model.cohort import Cohort, Operation
from engine.model.status import RunStatus
from engine.pacing.pacer import PaceRecord
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter, OperationSection
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.report.accounts import Accounts, exit_status_of, partial_reason
from engine.runs.closing import End, status_of
from engine.runs.session import Desk
from engine.snapshot.export_places import ExportPlaces
from engine.snapshot.operation_uids import operation_blocks
from engine.snapshot.store import SnapshotStore
from engine.storage.paths import operation_path


class Extent(Enum):
    """How much of a plan an execution sends."""

    ALL = auto()
    REST = auto()
    """What earlier executions left of it."""
    PART = auto()
    """Its first uids, and the plan stays open."""
    NONE = auto()
    """Nothing, and the plan stays open."""
    SHOWN = auto()
    """Nothing, and it is not to be applied: its baseline is not the snapshot that counts."""
    SHADOW = auto()
    """Nothing, ever; the shadow's snapshot moves as if all of it had been accepted."""


class PlanExecution:
    """One process's work on one plan."""

    def __init__(  # noqa: PLR0913 - where, what, and on what ground
        self,
        desk: Desk,
        ledger: Ledger,
        store: SnapshotStore,
        cohort: Cohort,
        *,
        is_placed: bool,
        extent: Extent = Extent.ALL,
    ) -> None:
        self.ledger = ledger
        self.state: RunState | None = None
        self.is_placed = is_placed
        """Whether the snapshot that the plan goes on from counts: one that was lost may not yet."""
        self.extent = extent
        self._desk = desk
        self._store = store
        self._cohort = cohort
        self._sender: Sender | None = None
        self._limit = Limit.of(desk.config.packing.payload_bytes)
        """What a 413 on one operation tells of the limit, it tells of the next."""

    @property
    def run(self) -> RunState:
        """Its run, which is entered."""
        if self.state is None:
            raise RuntimeError("a plan is worked on once its run is entered")
        return self.state

    async def send(self, record: PlanRecord, first: int | None = None) -> Stop | None:
        """Send what is left of the plan, or the `first` uids of that; return what stopped it."""
        desk = self._desk
        left = math.inf if first is None else first
        places = {operation: await self._done(operation) for operation in Operation}
        async with Sender.open(
            desk.config, self.ledger.sends, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
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
                stop = stop or await self._deliver(sender, parts)
                if stop is not None:
                    return stop
        return None

    async def _done(self, operation: Operation) -> int:
        return await self.ledger.plans.next_place(self.run.run, operation)

    async def _deliver(
        self, sender: Sender, parts: Sequence[tuple[PlanSegment, int]]
    ) -> Stop | None:
        """Deliver segments, each from its place on, as one: an acceptance of any proves them."""
        run, name, execution = self.run.run, self.run.name, self.run.execution
        state = await self.ledger.runs.progress(run, name, execution)
        return await sender.deliver(state, self._limit, self._batches(parts))

    def _batches(self, parts: Sequence[tuple[PlanSegment, int]]) -> Iterator[Batch]:
        config = self._desk.config
        folder = self._store.plan_folder(self.run.name)
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
        """Wait until the far side has applied what other runs have sent, or those after `since`."""
        recent = await self._store.recent(but=self.run.run)
        is_concerned = since is None or any(run > since for run in recent.runs)
        seconds = recent.seconds if is_concerned else 0.0
        return await wait_or_stop(seconds, self._desk.switch, self._desk.observe)

    @property
    def pace(self) -> PaceRecord | None:
        """How this process kept to the ceiling; None if it never came to sending."""
        return self._sender.pacer.record() if self._sender else None

    async def fold(self, accounts: Accounts | None, stop: Stop | None) -> None:
        """Fold what was sent into the snapshot; close the plan unless it is still to be applied."""
        run = self.run.run
        stays_open = stop is None and self.extent in {Extent.NONE, Extent.PART}
        if self.is_placed:
            await self._store.catch_up(stays_open=run if stays_open else None)
        if not (stays_open and accounts and accounts.uids.pending):
            await self.ledger.plans.close(run)

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Say how the run stands."""
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
        apply_rest = f"`cohortsync apply {self.run.name}` sends "
        if extent in {Extent.NONE, Extent.SHOWN, Extent.SHADOW}:
            hint = f"{apply_rest}it" if extent is Extent.NONE and uids.pending else None
            status = RunStatus.SHADOW if extent is Extent.SHADOW else RunStatus.PLANNED
            return End(status, ExitStatus.ACCEPTED, hint=hint)
        known = accounts.mirror.known_rejects if accounts.mirror else 0
        settings = self._desk.config.accounting
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
