"""One process's work on a mirror's plan: sent stretch by stretch, folded, and accounted for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.delivery.sender import Sender, wait_or_stop
from engine.delivery.stop import Stop
from engine.errors import ExitStatus
from engine.ledger.plan_records import PlanRecord, PlanSegment
from engine.ledger.records import RunState
from engine.ledger.sqlite import changes, plans
from engine.ledger.sqlite.ledger import Ledger
from engine.model.cohort import Cohort, Operation
from engine.pacing import PaceRecord
from engine.payload.batch import Batch, Cutter, Limit
from engine.payload.envelope import Envelope
from engine.report.accounts import Accounts, exit_status_of, partial_reason
from engine.runs.closing import End, status_of
from engine.runs.session import Desk
from engine.snapshot.operation_file import operation_blocks
from engine.snapshot.store import SnapshotStore
from engine.storage.paths import operation_path

LASTING, CANARY, SHADOW = "planned", "canary", "shadow"
"""The status of a run of which nothing, a part, or never anything is sent."""
APPLIED = "applied"
"""All that is left of a plan is sent."""
SHOWN = "shown"
"""Like a plan, but one that goes on from a snapshot that does not count yet: not to be applied."""


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
        is_open: str | None = None,
    ) -> None:
        self.ledger = ledger
        self.state: RunState | None = None
        self.is_placed = is_placed
        """Whether the snapshot that the plan goes on from counts: one that was lost may not yet."""
        self.is_open = is_open
        """The status of a run of which not all is to be sent, if nothing stops it."""
        self._desk = desk
        self._store = store
        self._cohort = cohort
        self._sender: Sender | None = None
        limit = desk.config.packing.payload_bytes
        self._limit = Limit(limit, limit)
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
            desk.config, self.ledger, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
            for is_held in (False, True):
                parts = []
                for stretch in record.stretches:
                    start = places[stretch.operation]
                    end = int(min(stretch.end, start + left))
                    if stretch.is_held is is_held and start < end:
                        parts.append((replace(stretch, end=end), start))
                        places[stretch.operation] = end
                        left -= end - start
                if not parts:
                    continue
                stop = await self.wait_to_settle() if is_held else None
                stop = stop or await self._deliver(sender, parts)
                if stop is not None:
                    return stop
        return None

    async def _done(self, operation: Operation) -> int:
        return await self.ledger.write(lambda c: plans.next_place(c, self.run.run, operation))

    async def _deliver(
        self, sender: Sender, parts: Sequence[tuple[PlanSegment, int]]
    ) -> Stop | None:
        """Deliver stretches, each from its place on, as one: an acceptance of any proves them."""
        run, name, execution = self.run.run, self.run.name, self.run.execution
        state = await self.ledger.write(lambda c: changes.progress(c, run, name, execution))
        return await sender.deliver(state, self._limit, self._batches(parts))

    def _batches(self, parts: Sequence[tuple[PlanSegment, int]]) -> Iterator[Batch]:
        config = self._desk.config
        for stretch, start in parts:
            cutter = Cutter(
                Envelope(config.workspace.partner, self._cohort, stretch.operation.action),
                config.packing.payload_bytes,
                operation=stretch.operation,
                first_uid=start,
                limit=self._limit,
                were_rejected=stretch.were_rejected,
            )
            path = operation_path(self._store.plan_folder(self.run.name), stretch.operation)
            yield from cutter.batches(operation_blocks(path, start, stretch.end))

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
        stays_open = stop is None and self.is_open in {LASTING, CANARY}
        if self.is_placed:
            await self._store.catch_up(stays_open=run if stays_open else None)
        if not (stays_open and accounts and accounts.uids.pending):
            await self.ledger.write(lambda c: plans.close_plan(c, run))

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Say how the run stands."""
        is_open = self.is_open
        if stop is not None:
            hint = stop.hint
            if is_open in {APPLIED, CANARY} and stop.exit_status is not ExitStatus.UNBALANCED:
                hint = "make a new plan: it goes on from what was acknowledged"
            status = status_of(stop.exit_status, stop.error)
            return End(status, stop.exit_status, stop.reason, hint)
        uids = accounts.uids
        apply_rest = f"`cohortsync apply {self.run.name}` sends "
        if is_open in {LASTING, SHOWN, SHADOW}:
            hint = f"{apply_rest}it" if is_open == LASTING and uids.pending else None
            status = LASTING if is_open == SHOWN else is_open
            return End(status, ExitStatus.ACCEPTED, hint=hint)
        known = accounts.mirror.known_rejects if accounts.mirror else 0
        settings = self._desk.config.accounting
        is_part = is_open == CANARY and uids.pending > 0
        judged = replace(uids, pending=0) if is_part else uids
        exit_status = exit_status_of(judged, accounts.rows, settings, known)
        status = CANARY if is_part else status_of(exit_status)
        if exit_status is ExitStatus.INCOMPLETE:
            hint = "mirror again: the next plan settles them"
            return End(status, exit_status, "some uids are not confirmed", hint)
        reason = None
        if exit_status is ExitStatus.PARTIAL:
            reason = partial_reason(uids, accounts.rows, accounts.run, known)
        return End(status, exit_status, reason, f"{apply_rest}the rest" if is_part else None)
