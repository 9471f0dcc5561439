"""A mirror from its command to its books: compare, guard, send, and remember what was sent.

Where a push goes on with what an earlier one left, a mirror never does: what the ledger knows is
folded into the snapshot, and a new plan begins from there.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from engine.bases import Base, find_base, install
from engine.batch import Batch, Cutter, Limit
from engine.clock import Clock, SystemClock
from engine.cohort import Action, Cohort, Envelope, Leg
from engine.config import Config
from engine.delivery.events import Observer
from engine.delivery.stop import Stop
from engine.desk import Desk
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, UsageError
from engine.ledger import changes, plans
from engine.ledger.ledger import Ledger
from engine.ledger.place import LEDGER_NAME, ledger_folder
from engine.ledger.plans import PlanRecord, Stretch
from engine.ledger.records import CohortKey, RunState
from engine.plan.compare import leg_path
from engine.plan.generation_source import GenerationSource
from engine.plan.leg import leg_blocks
from engine.planning import MirrorRequest, Planner
from engine.report.accounts import Accounts, account, exit_status_of
from engine.report.history import reading
from engine.report.planned import plan_document
from engine.report.result import Opening, RunResult
from engine.sending import Sender, StopSwitch, wait_or_stop
from engine.snapshots import SnapshotStore

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
    async with desk.open(request.wait_seconds) as (ledger, store):
        base = await find_base(store, assume_empty=request.assume_empty, trust=request.trust)
        return await _plan_and_send(request, desk, ledger, store, base, looking, sends=sends)


async def rollback(  # noqa: PLR0913 - what to make of which cohort, and how
    request: Callable[[GenerationSource, Cohort], MirrorRequest],
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

    `request` is given that generation as a source, and the cohort, which keeps its name unless
    another is given. Raises as `mirror` does, and `UsageError` where nobody knows the name.
    """
    looking = Watch(**watch)
    key = CohortKey(config.workspace.partner, cohort_id)
    desk = looking.desk(config, key)
    async with desk.open(wait_seconds) as (ledger, store):
        base = await find_base(store)
        snapshot = await store.verified(generation)
        last = await ledger.write(lambda c: plans.last_mirror(c, key))
        if name is None and last is None:
            raise UsageError(
                f"cohort {cohort_id} was never mirrored, so that its name is not known",
                hint="pass --cohort-name",
            )
        known = (last.cohort_name, last.cohort_description) if last else ("", None)
        cohort = Cohort(cohort_id, name or known[0], known[1])
        _refuse_narrow(config, cohort)
        asked = request(GenerationSource(snapshot.path, generation), cohort)
        return await _plan_and_send(asked, desk, ledger, store, base, looking, sends=sends)


def _refuse_narrow(config: Config, cohort: Cohort) -> None:
    """Raise `UsageError` for a limit that leaves no room for a uid, before anything is done."""
    for action in Action:
        envelope = Envelope(config.workspace.partner, cohort, action)
        Cutter(envelope, config.packing.payload_bytes)


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
    state = await desk.begin(ledger, request)
    night = _Night(desk, ledger, store, state, request.cohort, is_placed=base.origin is None)
    looking.opened(desk.opening(state, request.cohort))
    try:
        planner = Planner(
            *(request, desk.config, desk.key, store, ledger, desk.clock, desk.switch, desk.note)
        )
        record = await planner.plan(state, base)
        looking.planned(plan_document(record))
        if record.is_blocked:
            return await night.close(_guarded(record))
        if not (sends or request.is_shadow):
            return await night.close(None, is_open=_LASTING if base.origin is None else _SHOWN)
        number = await install(store, base)
        night.is_placed = True
        if number is not None:
            await ledger.write(lambda c: plans.rebase(c, state.run, number))
        if request.is_shadow:
            planned = {leg: counts.planned for leg, counts in record.legs.items()}
            await store.move_shadow(state.run, state.name, planned)
            return await night.close(None, is_open=_SHADOW)
        return await night.close(await night.send(record))
    except CohortSyncError as error:
        return await night.close(Stop.of(error))


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
    desk = looking.desk(config, CohortKey(row["partner"], row["cohort_id"]))
    async with desk.open(wait_seconds) as (ledger, store):
        await store.catch_up()
        record = await ledger.write(lambda c: plans.open_plan(c, row["run"]))
        current = await store.current()
        if record is None:
            raise UsageError(
                f"plan {plan} is done with: nothing more of it is to be sent",
                hint=f"`cohortsync show {plan}` tells what became of it; make a new plan",
            )
        if (current[0].number if current else None) != record.generation:
            raise UsageError(
                f"plan {plan} is out of date: the snapshot of cohort {cohort.id} has moved since",
                hint="make a new plan",
            )
        later = await ledger.write(lambda c: plans.overtaken_by(c, row["run"], desk.key))
        if later is not None:
            raise UsageError(
                f"plan {plan} is out of date: run {later} has sent to the cohort since, or found "
                "nothing to send",
                hint="make a new plan",
            )
        state = await desk.sit_down(ledger, row["run"], plan)
        night = _Night(desk, ledger, store, state, cohort, is_placed=True)
        looking.opened(desk.opening(state, cohort))
        looking.planned(plan_document(record))
        try:
            # What was sent since the plan was made is not among what it lets wait.
            stop = await night.wait_to_settle(since=row["run"]) or await night.send(record, first)
        except CohortSyncError as error:
            stop = Stop.of(error)
        return await night.close(stop, is_open=_APPLIED if first is None else _CANARY)


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
        return await wait_or_stop(seconds, self._desk.switch, self._desk.note)

    async def close(self, stop: Stop | None, *, is_open: str | None = None) -> RunResult:
        """Fold what was sent into the snapshot, and write down and prove how the run stands.

        `is_open` is the status of a run of which not all was to be sent, if nothing stopped it.
        """
        run = self._state.run
        stays_open = stop is None and is_open in {_LASTING, _CANARY}
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
            if is_open in {_APPLIED, _CANARY}:
                hint = "make a new plan: it goes on from what was acknowledged"
            return _STATUS[stop.exit_status], stop.exit_status, stop.reason, hint
        uids = accounts.uids
        apply_rest = f"`cohortsync apply {self._state.name}` sends "
        if is_open in {_LASTING, _SHOWN, _SHADOW}:
            hint = f"{apply_rest}it" if is_open == _LASTING and uids.pending else None
            word = _LASTING if is_open == _SHOWN else is_open
            return word, ExitStatus.ACCEPTED, None, hint
        known = accounts.mirror.known_rejects if accounts.mirror else 0
        settings = self._desk.config.accounting
        is_part = is_open == _CANARY and uids.pending > 0
        judged = replace(uids, pending=0) if is_part else uids
        status = exit_status_of(judged, accounts.rows, settings, known)
        word = _CANARY if is_part else _STATUS[status]
        if status is ExitStatus.INCOMPLETE:
            reason = "some uids are not confirmed"
            return word, status, reason, "mirror again: the next plan settles them"
        return word, status, None, f"{apply_rest}the rest" if is_part else None

    def _accounts(self) -> Accounts:
        with reading(self._ledger.path, is_verified=True) as ledger:
            return account(ledger, self._state.name)


_LASTING, _CANARY, _SHADOW = "planned", "canary", "shadow"
"""The status of a run of which nothing, a part, or never anything is sent."""
_APPLIED = "applied"
"""All that is left of a plan is sent."""
_SHOWN = "shown"
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
