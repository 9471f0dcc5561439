"""A mirror from its command to its books: compare, guard, send, and remember what was sent.

Where a push goes on with what an earlier one left, a mirror never does: what the ledger knows is
folded into the snapshot, and a new plan begins from there.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.batch import Cutter
from engine.clock import Clock, SystemClock
from engine.cohort import Action, Cohort, Envelope
from engine.config import Config
from engine.delivery.events import Observer
from engine.delivery.stop import Stop
from engine.desk import Desk
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, UsageError
from engine.ledger import changes, mirrors
from engine.ledger.ledger import Ledger
from engine.ledger.mirrors import CohortKey, PlanRecord
from engine.ledger.place import LEDGER_NAME, ledger_folder
from engine.ledger.records import RunState
from engine.plan.leg import leg_blocks, sample, weigh
from engine.planning import MirrorRequest, Planner
from engine.report.accounts import Accounts, account, exit_status_of, timestamp
from engine.report.history import reading
from engine.report.result import Opening, RunResult
from engine.sending import Sender, StopSwitch
from engine.snapshots import SnapshotStore

Planned = Callable[[dict[str, Any]], None]


async def mirror(  # noqa: PLR0913 - what and how, then who looks on
    request: MirrorRequest,
    config: Config,
    *,
    sends: bool = True,
    observe: Observer = lambda _: None,
    opened: Callable[[Opening], None] = lambda _: None,
    planned: Planned = lambda _: None,
    waiting: Callable[[str], None] = lambda _: None,
    switch: StopSwitch | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Make a cohort equal to an export by sending what differs from what was acknowledged.

    `planned` hears of the plan before anything is sent; without `sends` nothing is, and the plan is
    kept for `apply`. Returns the books of the run, however it ended. Raises a `CohortSyncError` for
    what keeps it from beginning: the configuration, the state folder, a snapshot that is lost.
    """
    key = CohortKey(config.workspace.partner, request.cohort.id)
    desk = Desk(config, key, observe, waiting, switch or StopSwitch(), clock or SystemClock())
    async with desk.open(request.wait_seconds) as (ledger, store):
        if request.assume_empty:
            await store.assume_empty()
        elif request.trust is not None:
            await store.trust(request.trust)
        await store.catch_up()
        base = await store.current()
        state = await desk.begin(ledger, request)
        night = _Night(desk, ledger, store, state, request.cohort)
        opened(desk.opening(state, request.cohort))
        try:
            planner = Planner(request, config, key, store, ledger, desk.clock, desk.switch)
            record, verdicts = await planner.plan(state, base)
        except CohortSyncError as error:
            return await night.close(Stop.of(error))
        planned(night.forecast(record))
        if any(verdict.blocks for verdict in verdicts):
            return await night.close(_guarded(record))
        if not sends:
            return await night.close(None, is_plan=True)
        return await night.close(await night.send(record))


async def apply(  # noqa: PLR0913 - what and how, then who looks on
    plan: str,
    config: Config,
    *,
    first: int | None = None,
    wait_seconds: float = 0.0,
    observe: Observer = lambda _: None,
    opened: Callable[[Opening], None] = lambda _: None,
    waiting: Callable[[str], None] = lambda _: None,
    switch: StopSwitch | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Send a plan as it was made, or its `first` uids that are not sent yet.

    Raises `UsageError` if there is no such plan, if a guard blocks it, if all of it is sent, or if
    the snapshot has moved since by anything but this plan.
    """
    folder = ledger_folder(config.state_dir, config.workspace.endpoint.url, config.workspace.id)
    if not (folder / LEDGER_NAME).exists():
        raise _no_plan(plan)
    with reading(folder / LEDGER_NAME) as connection:
        row = connection.execute("SELECT * FROM run WHERE name = ?", (plan,)).fetchone()
    if row is None or row["action"] != changes.MIRROR:
        raise _no_plan(plan)
    if row["partner"] != config.workspace.partner:
        raise UsageError(
            f"plan {plan} is of partner {row['partner']}, by the configuration "
            f"it is {config.workspace.partner} now"
        )
    cohort = Cohort(row["cohort_id"], row["cohort_name"], row["cohort_description"])
    key = CohortKey(row["partner"], row["cohort_id"])
    desk = Desk(config, key, observe, waiting, switch or StopSwitch(), clock or SystemClock())
    async with desk.open(wait_seconds) as (ledger, store):
        await store.catch_up()
        record = await ledger.write(lambda c: mirrors.open_plan(c, row["run"]))
        current = await store.current()
        if record is None or any(told["verdict"] == "blocks" for told in record.verdicts):
            raise UsageError(
                f"plan {plan} cannot be sent: it is done with, or a guard blocks it",
                hint=f"`cohortsync show {plan}` tells; mirror again for a new plan",
            )
        if (current[0].number if current else None) != record.generation:
            raise UsageError(
                f"plan {plan} is out of date: the snapshot of cohort {cohort.id} has moved since",
                hint="make a new plan",
            )
        state = await desk.sit_down(ledger, row["run"], plan)
        night = _Night(desk, ledger, store, state, cohort)
        opened(desk.opening(state, cohort))
        return await night.close(await night.send(record, first), is_canary=first is not None)


def _no_plan(plan: str) -> UsageError:
    return UsageError(f"no plan {plan} here", hint="`cohortsync runs` lists plans, too")


def _guarded(record: PlanRecord) -> Stop:
    blocking = [told for told in record.verdicts if told["verdict"] == "blocks"]
    reason = "; ".join(f"{told['guard']}: {told['sentence']}" for told in blocking)
    overrides = [told["override"] for told in blocking if told["override"]]
    hint = "look at the export"
    if len(overrides) == len(blocking):
        flags = " ".join(override.partition(" --reason")[0] for override in overrides)
        hint += f'; if it is right: {flags} --reason "why"'
    return Stop(ExitStatus.GUARDED, reason, hint)


class _Night:
    """One process's work on one plan."""

    def __init__(
        self, desk: Desk, ledger: Ledger, store: SnapshotStore, state: RunState, cohort: Cohort
    ) -> None:
        self._desk = desk
        self._ledger = ledger
        self._store = store
        self._state = state
        self._cohort = cohort
        self._sender: Sender | None = None
        self._payload_bytes = desk.config.packing.payload_bytes
        self._found_bytes = self._payload_bytes

    def _leg(self, action: Action) -> Path:
        return self._store.plan_folder(self._state.name) / f"{action.value}s.parquet"

    def _envelope(self, action: Action) -> Envelope:
        return Envelope(self._desk.config.workspace.partner, self._cohort, action)

    def forecast(self, record: PlanRecord) -> dict[str, Any]:
        """Say what the plan comes to, as plain values for people and programs."""
        weights = [
            weigh(self._leg(action), self._envelope(action), self._payload_bytes)
            for action in Action
        ]
        requests = sum(weight[0] for weight in weights)
        pacing = self._desk.config.pacing
        seconds = max(0, requests - 1) * pacing.per_seconds / pacing.requests
        if record.adds.held or record.removes.held:
            seconds += self._desk.config.mirror.settle_seconds
        now = self._desk.clock.stamp().utc_ns
        return {
            "generation": record.generation,
            "first_action": record.first_action.value,
            "add": record.adds.planned,
            "remove": record.removes.planned,
            "requests": requests,
            "bytes": sum(weight[1] for weight in weights),
            "seconds_at_ceiling": round(seconds, 1),
            "done_at": timestamp(now + round(seconds * 1e9)),
            "held": record.adds.held + record.removes.held,
            "guards": list(record.verdicts),
            "sample": {action.value: sample(self._leg(action), _SAMPLE) for action in Action},
        }

    async def send(self, record: PlanRecord, first: int | None = None) -> Stop | None:
        """Send what is left of the plan, or the `first` uids of that; return what stopped it."""
        desk = self._desk
        left = math.inf if first is None else first
        other = Action.ADD if record.first_action is Action.REMOVE else Action.REMOVE
        async with Sender.open(
            desk.config, self._ledger, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
            for is_held in (False, True):
                for action in (record.first_action, other):
                    leg = record.leg(action)
                    unheld = leg.plain + leg.suspect
                    ends = (leg.planned,) if is_held else (leg.plain, unheld)
                    for end in ends:
                        start = await self._done(action)
                        end_here = int(min(end, start + left))
                        if end_here <= start:
                            continue
                        stop = await self._wait_to_settle() if is_held else None
                        stop = stop or await self._send_stretch(sender, action, start, end_here)
                        if stop is not None:
                            return stop
                        left -= end_here - start
        return None

    async def _done(self, action: Action) -> int:
        return await self._ledger.write(lambda c: mirrors.next_place(c, self._state.run, action))

    async def _send_stretch(
        self, sender: Sender, action: Action, start: int, end: int
    ) -> Stop | None:
        run, name, sitting = self._state.run, self._state.name, self._state.sitting
        state = await self._ledger.write(lambda c: changes.progress(c, run, name, sitting))
        envelope = self._envelope(action)
        cutter = Cutter(
            envelope, self._payload_bytes, first_uid=start, found_bytes=self._found_bytes
        )
        batches = cutter.batches(leg_blocks(self._leg(action), start, end))
        stop = await sender.deliver(state, envelope, cutter, batches)
        self._found_bytes = cutter.payload_bytes
        return stop

    async def _wait_to_settle(self) -> Stop | None:
        """Wait until the far side has applied what earlier runs have sent."""
        _, seconds = await self._store.recent(but=self._state.run)
        if seconds > 0:
            self._desk.waiting(f"earlier changes to settle, {seconds:,.0f} s")
        stopped: asyncio.Queue[Stop] = asyncio.Queue()
        with self._desk.switch.connected(stopped.put_nowait), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await stopped.get()
        return None

    async def close(
        self, stop: Stop | None, *, is_plan: bool = False, is_canary: bool = False
    ) -> RunResult:
        """Fold what was sent into the snapshot, and write down and prove how the run stands."""
        is_open = stop is None and (is_plan or is_canary)
        await self._store.catch_up(stays_open=self._state.run if is_open else None)
        if not is_open:
            await self._ledger.write(lambda c: mirrors.close_plan(c, self._state.run))
        accounts = self._accounts()
        mirrored = accounts.mirror
        known = mirrored.known_rejects if mirrored else 0
        hint = stop.hint if stop else None
        reason = stop.reason if stop else None
        if stop is not None:
            status = stop.exit_status
        elif is_open and accounts.uids.pending:
            status = ExitStatus.ACCEPTED
            hint = f"`cohortsync apply {self._state.name}` sends " + (
                "it" if is_plan else "the rest"
            )
        else:
            status = exit_status_of(
                accounts.uids, accounts.rows, self._desk.config.accounting, known
            )
        if status is ExitStatus.INCOMPLETE and stop is None:
            reason = "some uids are not confirmed"
            hint = "mirror again: the next plan settles them"
        word = _STATUS[status]
        if is_open and accounts.uids.pending:
            word = "planned" if is_plan else "canary"
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

    def _accounts(self) -> Accounts:
        with reading(self._ledger.path, is_verified=True) as ledger:
            return account(ledger, self._state.name)


_SAMPLE = 5
"""Uids of each leg that a plan shows."""

_STATUS = {
    ExitStatus.ACCEPTED: "finished",
    ExitStatus.PARTIAL: "finished",
    ExitStatus.USAGE: "source_failed",
    ExitStatus.REFUSED: "refused",
    ExitStatus.GUARDED: "guarded",
    ExitStatus.UNBALANCED: "unbalanced",
    ExitStatus.INCOMPLETE: "incomplete",
}
