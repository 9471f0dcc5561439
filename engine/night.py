"""One process's work on a mirror's plan: sent stretch by stretch, folded, and accounted for."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from engine.batch import Batch, Cutter, Limit
from engine.cohort import Cohort, Envelope, Leg
from engine.delivery.stop import Stop
from engine.desk import Desk
from engine.errors import ExitStatus, IncompleteError
from engine.ledger import changes, plans
from engine.ledger.ledger import Ledger
from engine.ledger.plans import PlanRecord, Stretch
from engine.ledger.records import RunState
from engine.plan.compare import leg_path
from engine.plan.leg import leg_blocks
from engine.report.accounts import Accounts, account, exit_status_of, partial_reason
from engine.report.history import reading
from engine.report.result import RunResult
from engine.sending import Sender, wait_or_stop
from engine.snapshots import SnapshotStore

LASTING, CANARY, SHADOW = "planned", "canary", "shadow"
"""The status of a run of which nothing, a part, or never anything is sent."""
APPLIED = "applied"
"""All that is left of a plan is sent."""
SHOWN = "shown"
"""Like a plan, but one that goes on from a snapshot that does not count yet: not to be applied."""

_STATUS = {
    ExitStatus.ACCEPTED: "finished",
    ExitStatus.PARTIAL: "finished",
    ExitStatus.USAGE: "source_failed",
    ExitStatus.REFUSED: "refused",
    ExitStatus.GUARDED: "guarded",
    ExitStatus.UNBALANCED: "unbalanced",
    ExitStatus.INCOMPLETE: "incomplete",
}


class Night:
    """One process's work on one plan."""

    def __init__(  # noqa: PLR0913 - where, what, and on what ground
        self,
        desk: Desk,
        ledger: Ledger,
        store: SnapshotStore,
        state: RunState,
        cohort: Cohort,
        *,
        is_placed: bool,
    ) -> None:
        self.is_placed = is_placed
        """Whether the snapshot that the plan goes on from counts: one that was lost may not yet."""
        self._desk = desk
        self._ledger = ledger
        self._store = store
        self._state = state
        self._cohort = cohort
        self._sender: Sender | None = None
        limit = desk.config.packing.payload_bytes
        self._limit = Limit(limit, limit)
        """What a 413 on one leg tells of the limit, it tells of the next."""

    async def send(self, record: PlanRecord, first: int | None = None) -> Stop | None:
        """Send what is left of the plan, or the `first` uids of that; return what stopped it."""
        desk = self._desk
        left = math.inf if first is None else first
        places = {leg: await self._done(leg) for leg in Leg}
        async with Sender.open(
            desk.config, self._ledger, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
            for is_held in (False, True):
                parts = []
                for stretch in record.stretches:
                    start = places[stretch.leg]
                    end = int(min(stretch.end, start + left))
                    if stretch.is_held is is_held and start < end:
                        parts.append((replace(stretch, end=end), start))
                        places[stretch.leg] = end
                        left -= end - start
                if not parts:
                    continue
                stop = await self.wait_to_settle() if is_held else None
                stop = stop or await self._deliver(sender, parts)
                if stop is not None:
                    return stop
        return None

    async def _done(self, leg: Leg) -> int:
        return await self._ledger.write(lambda c: plans.next_place(c, self._state.run, leg))

    async def _deliver(self, sender: Sender, parts: Sequence[tuple[Stretch, int]]) -> Stop | None:
        """Deliver stretches, each from its place on, as one: an acceptance of any proves them."""
        run, name, sitting = self._state.run, self._state.name, self._state.sitting
        state = await self._ledger.write(lambda c: changes.progress(c, run, name, sitting))
        return await sender.deliver(state, self._limit, self._batches(parts))

    def _batches(self, parts: Sequence[tuple[Stretch, int]]) -> Iterator[Batch]:
        config = self._desk.config
        for stretch, start in parts:
            cutter = Cutter(
                Envelope(config.workspace.partner, self._cohort, stretch.leg.action),
                config.packing.payload_bytes,
                leg=stretch.leg,
                first_uid=start,
                limit=self._limit,
                were_rejected=stretch.were_rejected,
            )
            path = leg_path(self._store.plan_folder(self._state.name), stretch.leg)
            yield from cutter.batches(leg_blocks(path, start, stretch.end))

    async def wait_to_settle(self, since: int | None = None) -> Stop | None:
        """Wait until the far side has applied what other runs have sent, or those after `since`."""
        recent = await self._store.recent(but=self._state.run)
        is_concerned = since is None or any(run > since for run in recent.runs)
        seconds = recent.seconds if is_concerned else 0.0
        return await wait_or_stop(seconds, self._desk.switch, self._desk.observe)

    async def close(self, stop: Stop | None, *, is_open: str | None = None) -> RunResult:
        """Fold what was sent into the snapshot, and write down and prove how the run stands.

        `is_open` is the status of a run of which not all was to be sent, if nothing stopped it.
        """
        run = self._state.run
        stays_open = stop is None and is_open in {LASTING, CANARY}
        if self.is_placed:
            await self._store.catch_up(stays_open=run if stays_open else None)
        accounts = self._accounts()
        if not (stays_open and accounts.uids.pending):
            await self._ledger.write(lambda c: plans.close_plan(c, run))
        word, status, reason, hint = self._standing(accounts, stop, is_open)
        if accounts.imbalance:
            status, reason = ExitStatus.UNBALANCED, f"the books: {accounts.imbalance}"
            hint = "this is a bug in cohortsync; keep the state folder and report it"
            word = _STATUS[status]
        pace = self._sender.pacer.record() if self._sender else None
        with suppress(IncompleteError):  # A full disk: the next command finds the run as it is.
            await self._ledger.finish(self._state, word, status, reason, pace)
            accounts = self._accounts()
        accounts = replace(accounts, status=word, exit_status=int(status), reason=reason)
        return RunResult(accounts, status, hint)

    def _standing(
        self, accounts: Accounts, stop: Stop | None, is_open: str | None
    ) -> tuple[str, ExitStatus, str | None, str | None]:
        """Return the run's status, its exit status, the reason, and a hint."""
        if stop is not None:
            hint = stop.hint
            if is_open in {APPLIED, CANARY}:
                hint = "make a new plan: it goes on from what was acknowledged"
            return _STATUS[stop.exit_status], stop.exit_status, stop.reason, hint
        uids = accounts.uids
        apply_rest = f"`cohortsync apply {self._state.name}` sends "
        if is_open in {LASTING, SHOWN, SHADOW}:
            hint = f"{apply_rest}it" if is_open == LASTING and uids.pending else None
            word = LASTING if is_open == SHOWN else is_open
            return word, ExitStatus.ACCEPTED, None, hint
        known = accounts.mirror.known_rejects if accounts.mirror else 0
        settings = self._desk.config.accounting
        is_part = is_open == CANARY and uids.pending > 0
        judged = replace(uids, pending=0) if is_part else uids
        status = exit_status_of(judged, accounts.rows, settings, known)
        word = CANARY if is_part else _STATUS[status]
        if status is ExitStatus.INCOMPLETE:
            hint = "mirror again: the next plan settles them"
            return word, status, "some uids are not confirmed", hint
        reason = None
        if status is ExitStatus.PARTIAL:
            reason = partial_reason(uids, accounts.rows, accounts.run, known)
        return word, status, reason, f"{apply_rest}the rest" if is_part else None

    def _accounts(self) -> Accounts:
        with reading(self._ledger.path, is_verified=True) as ledger:
            return account(ledger, self._state.name)
