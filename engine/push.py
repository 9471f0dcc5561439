"""A push from its command to its books: the parts are assembled here, and nowhere else.

`push` is what the command line calls, and what a program may call instead.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from engine.batch import Batch, Cutter, blank_among, invalid_among
from engine.clock import Clock, SystemClock
from engine.cohort import Action, Cohort, Envelope, Leg
from engine.config import Config
from engine.delivery.events import Observer
from engine.delivery.stop import Stop
from engine.desk import Desk
from engine.errors import (
    EmptyExportError,
    ExitStatus,
    ExportChangedError,
    IncompleteError,
    SourceError,
    UsageError,
)
from engine.ledger import changes, following
from engine.ledger.ledger import Ledger
from engine.ledger.records import CohortKey, Command, RunKey, RunState, SittingSettings
from engine.plan.recording import recording
from engine.report.accounts import Accounts, account, exit_status_of, partial_reason
from engine.report.figures import Ceiling, CeilingSpending, Requests, Rows, Standing
from engine.report.history import reading
from engine.report.result import Opening, RunResult
from engine.sending import Sender, StopSwitch, wait_or_stop
from engine.snapshots import SnapshotStore
from engine.source.block import Source


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What is to be pushed, and how to deal with what an earlier run left."""

    source: Source
    exports: Sequence[str]
    """The exports as they were named."""
    reading: dict[str, Any]
    """The reading options as they were named."""
    cohort: Cohort
    action: Action
    restart_if_changed: bool = False
    records: bool = False
    """Whether the cohort's snapshot follows what is sent, as it does a mirror."""
    wait_seconds: float = 0.0
    """How long to wait for another process to let go of the workspace."""


async def push(  # noqa: PLR0913 - what and how, then who looks on
    request: PushRequest,
    config: Config,
    *,
    observe: Observer = lambda _: None,
    opened: Callable[[Opening], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    switch: StopSwitch | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Push an export into a cohort, or go on with the push that an earlier command left.

    Returns the books of the run, however it ended. Raises a `CohortSyncError` for what keeps it
    from beginning: the configuration, the state folder, an export that changed.
    """
    clock = clock or SystemClock()
    switch = switch or StopSwitch()
    workspace = config.workspace
    envelope = Envelope(workspace.partner, request.cohort, request.action)
    Cutter(envelope, config.packing.payload_bytes)  # Refuses a limit that leaves no room, early.
    key = CohortKey(workspace.partner, request.cohort.id)
    desk = Desk(config, key, observe, note, switch, clock)
    async with desk.open(request.wait_seconds) as (ledger, store):
        records = await ledger.write(lambda c: _is_recorded(c, request, config))
        if records:
            await store.catch_up()
            await store.current()  # A lost snapshot is noticed before anything is sent.
        else:
            await store.refuse_lost_ledger()  # Else nobody knows that the cohort is mirrored.
        behind = await ledger.write(lambda c: changes.left_behind(c, key_of(request, config)))
        if behind is not None:
            note(
                f"run {behind} of this cohort is unfinished, and stays so: this command names "
                "other files, reading options or another action, and begins a run of its own"
            )
        sitting = _Sitting(request, desk, envelope, ledger, store if records else None)
        stop = await sitting.run(opened, restart=False)
        if _has_changed(stop) and request.restart_if_changed:
            stop = await sitting.run(opened, restart=True)
        return await sitting.close(stop)


def _is_recorded(connection: sqlite3.Connection, request: PushRequest, config: Config) -> bool:
    """Say whether the snapshot is to follow this push, or the one that it goes on with.

    Raises `UsageError` for a push that would change a cohort behind its snapshot's back.
    """
    found = changes.unfinished(connection, changes.identity_of(key_of(request, config)))
    if found is not None:
        number, name = found
        is_unrecorded = following.is_unrecorded(connection, number)
        if request.records and is_unrecorded and not request.restart_if_changed:
            raise UsageError(
                f"run {name} was begun without --record: what it has sent so far is not recorded",
                hint="go on with it as it was begun, or pass --on-changed restart to begin anew",
            )
        if following.is_followed(connection, number):
            return True
    key = CohortKey(config.workspace.partner, request.cohort.id)
    if not request.records and following.is_mirrored(connection, key):
        raise UsageError(
            f"cohort {request.cohort.id} is mirrored: a push would change what its snapshot knows",
            hint="mirror the export that it should be equal to, or pass --record, and the snapshot "
            "follows the push",
        )
    return request.records


def opening_of(
    request: PushRequest,
    config: Config,
    state: RunState | None = None,
    known_uids: int = 0,
    settled: tuple[int, int] = (0, 0),
) -> Opening:
    """Say where a run goes; without `state` it is a dry run.

    `settled`: how many of the `known_uids` are accepted, and how many rejected.
    """
    workspace = config.workspace
    return Opening(
        workspace.endpoint.label,
        workspace.id,
        workspace.partner,
        request.cohort,
        request.action.value,
        Ceiling(config.pacing.requests, config.pacing.per_seconds),
        state.name if state else None,
        state is not None and state.is_resumed,
        known_uids,
        *settled,
    )


def key_of(request: PushRequest, config: Config) -> RunKey:
    """Return what makes this request the same run as an earlier one."""
    workspace = config.workspace
    return RunKey(
        workspace.endpoint.url,
        workspace.id,
        workspace.partner,
        request.cohort,
        request.action,
        request.source.identity,
    )


def _has_changed(stop: Stop | None) -> bool:
    return stop is not None and isinstance(stop.error, ExportChangedError)


class _Sitting:
    """One process's work on one run."""

    def __init__(
        self,
        request: PushRequest,
        desk: Desk,
        envelope: Envelope,
        ledger: Ledger,
        store: SnapshotStore | None,
    ) -> None:
        """With a `store`, its snapshot follows what is sent."""
        self._request = request
        self._desk = desk
        self._config = desk.config
        self._envelope = envelope
        self._ledger = ledger
        self._store = store
        self._state: RunState | None = None
        self._sender: Sender | None = None

    async def run(self, opened: Callable[[Opening], None], *, restart: bool) -> Stop | None:
        """Begin or resume the run, and deliver what there is."""
        request, config, desk = self._request, self._config, self._desk
        pacing = config.pacing
        settings = SittingSettings(
            pacing.requests, pacing.per_seconds, config.packing.payload_bytes
        )
        state = await self._ledger.begin(
            key_of(request, config),
            Command(request.exports, request.reading, request.source.sizes),
            settings,
            restart=restart or await self._begins_to_record(),
            restart_if_overtaken=request.restart_if_changed,
        )
        self._state = state
        known = await self._ledger.known_batches(state.run)
        known_uids = sum(batch.uid_count for batch in known)
        settled = await self._ledger.uids_settled(state.run)
        opened(opening_of(request, config, state, known_uids, settled))
        cutter = Cutter(self._envelope, config.packing.payload_bytes, known)
        batches = cutter.batches(request.source.blocks())
        stop = None
        if self._store is not None:
            batches = await self._record(self._store, batches, state, known_uids)
            recent = await self._store.recent(but=state.run)
            stop = await wait_or_stop(recent.seconds, desk.switch, desk.observe)
        async with Sender.open(
            config, self._ledger, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
            left_open = await self._ledger.open_batches(state.run)
            stop = stop or await sender.deliver(state, cutter.limit, batches, left_open)
        # After an error of the source nobody reads on, so that the cutter stands still.
        if stop is not None and isinstance(stop.error, SourceError) and cutter.uidless:
            is_complete = isinstance(stop.error, EmptyExportError)
            with suppress(IncompleteError):  # A full disk: the export's error is what to tell.
                await self._ledger.enter_uidless(state, cutter.uidless, is_complete=is_complete)
        return stop

    async def _begins_to_record(self) -> bool:
        """Whether an unfinished run has sent what was not recorded: that is not gone on with."""
        if self._store is None:
            return False
        identity = changes.identity_of(key_of(self._request, self._config))

        def work(connection: sqlite3.Connection) -> bool:
            found = changes.unfinished(connection, identity)
            return found is not None and following.is_unrecorded(connection, found[0])

        return await self._ledger.write(work)

    async def _record(
        self, store: SnapshotStore, batches: Iterator[Batch], state: RunState, known_uids: int
    ) -> Iterator[Batch]:
        """Return the batches, each once its uids are kept for the snapshot."""
        await self._ledger.write(lambda c: following.follow(c, state.run))
        folder = store.make_plan_folder(state.name)
        return recording(batches, folder, Leg(self._request.action), known_uids)

    async def close(self, stop: Stop | None) -> RunResult:
        """Write down how the run stands, prove that the books balance, and return them."""
        if self._state is None or self._sender is None:
            raise RuntimeError("a sitting is closed after it was run")
        if self._store is not None:
            await self._store.catch_up()
        pace = self._sender.pacer.record()
        accounts = self._read_accounts()
        if stop is None:
            exit_status = exit_status_of(accounts.uids, accounts.rows, self._config.accounting)
        else:
            exit_status = stop.exit_status
        reason, hint = (stop.reason, stop.hint) if stop else (None, None)
        if exit_status is ExitStatus.INCOMPLETE and stop is None:
            reason = "some uids are not confirmed"
            hint = "run the same command again: it sends them once more, which does no harm"
        if exit_status is ExitStatus.PARTIAL:
            reason = partial_reason(accounts.uids, accounts.rows, accounts.run)
        if accounts.imbalance:
            exit_status, reason = ExitStatus.UNBALANCED, f"the books: {accounts.imbalance}"
            hint = "this is a bug in cohortsync; keep the state folder and report it"
        with suppress(IncompleteError):  # A full disk: the next command finds the run as it is.
            await self._ledger.finish(self._state, _STATUS[exit_status], exit_status, reason, pace)
            accounts = self._read_accounts()
        accounts = replace(
            accounts, status=_STATUS[exit_status], exit_status=int(exit_status), reason=reason
        )
        return RunResult(accounts, exit_status, hint)

    def _read_accounts(self) -> Accounts:
        if self._state is None:
            raise RuntimeError("a sitting has books after it was run")
        with reading(self._ledger.path, is_verified=True) as ledger:
            return account(ledger, self._state.name)


_STATUS = {
    ExitStatus.ACCEPTED: "finished",
    ExitStatus.PARTIAL: "finished",
    ExitStatus.USAGE: "source_failed",
    ExitStatus.REFUSED: "refused",
    ExitStatus.UNBALANCED: "unbalanced",
    ExitStatus.INCOMPLETE: "incomplete",
}


def dry_run(request: PushRequest, config: Config) -> RunResult:
    """Read and pack everything, open no connection, write no ledger; return what would be planned.

    An export without a uid is told in the books. Raises `SourceError` where it cannot be read.
    """
    workspace = config.workspace
    limit = config.packing.payload_bytes
    cutter = Cutter(Envelope(workspace.partner, request.cohort, request.action), limit)
    started = datetime.now(UTC)
    uids = batches = too_large = blank = invalid = size = through = 0
    reason = None
    try:
        for batch in cutter.batches(request.source.blocks()):
            fits = len(batch.payload) <= limit
            too_large += not fits
            uids += batch.uid_count
            batches += 1
            blank += batch.blank
            invalid += batch.invalid
            size += len(batch.payload) if fits else 0
            through = batch.records_through
    except EmptyExportError as error:
        reason = error.message
        if cutter.uidless is not None:
            through = cutter.uidless.records
            blank = blank_among(cutter.uidless.skipped)
            invalid = invalid_among(cutter.uidless.skipped)
    finished = datetime.now(UTC)
    rows = Rows(through, blank, invalid)
    would_finish = (
        exit_status_of(Standing(rejected=too_large), rows, config.accounting)
        if reason is None
        else EmptyExportError.exit_status
    )
    if would_finish is ExitStatus.PARTIAL:
        reason = partial_reason(Standing(rejected=too_large), rows, None)
    accounts = Accounts(
        run=None,
        status="dry_run",
        exit_status=int(would_finish),
        reason=reason,
        target=workspace.endpoint.label,
        workspace=workspace.id,
        partner=workspace.partner,
        cohort_id=request.cohort.id,
        cohort_name=request.cohort.name,
        action=request.action.value,
        ceiling=Ceiling(config.pacing.requests, config.pacing.per_seconds),
        source_complete=True,
        rows=rows,
        uids=Standing(planned=uids, pending=uids),
        batches=Standing(planned=batches, pending=batches),
        requests=Requests(),
        bytes_sent=0,
        payload_fill=round(size / (limit * max(batches - too_large, 1)), 6),
        ceiling_use=0.0,
        ceiling_spending=CeilingSpending(),
        ceiling_found=None,
        margin_seconds=0.0,
        started_at=started.isoformat(timespec="milliseconds"),
        finished_at=finished.isoformat(timespec="milliseconds"),
        elapsed_seconds=round((finished - started).total_seconds(), 3),
    )
    return RunResult(accounts, would_finish)
