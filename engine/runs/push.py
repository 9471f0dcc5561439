"""A push, from its request to its accounts: this module assembles its parts."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from engine.cancellation import run_in_thread
from engine.config.loading import Config
from engine.delivery.http import refuse_unfit
from engine.delivery.stop import Stop
from engine.errors import (
    EmptyExportError,
    ExitStatus,
    ExportChangedError,
    IncompleteError,
    SourceError,
)
from engine.ledger.records import RunCommand, RunState
from engine.model.cohort import CohortKey, Operation
from engine.pacing.pacer import PaceRecord
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit, refuse_narrow_limit
from engine.planning.allowances import attributed
from engine.planning.file_times import judge_spread
from engine.report.accounts import Accounts, exit_status_of, partial_reason
from engine.report.run_results import Opening, RunResult
from engine.runs import context as run_context
from engine.runs.closing import End, enter, run_to_end, status_of
from engine.runs.context import NOBODY, RunContext, RunObservers, entered
from engine.runs.interruptible import WritePermission
from engine.runs.ports import Ledger
from engine.runs.precedence import FIRST, Precedence
from engine.runs.push_admission import (
    PushRequest,
    admit,
    excludes_others,
    key_of,
    refuse_ended,
)
from engine.runs.sending import RunSender
from engine.runs.session import WorkspaceSession
from engine.snapshot.operation_uids import recording
from engine.snapshot.store import SnapshotStore
from engine.source.protocol import (
    MeasuresReading,
    Source,
    files_of,
    is_rereadable,
)
from engine.source.source_file import describe_files


async def push(
    request: PushRequest,
    session: WorkspaceSession,
    observers: RunObservers = NOBODY,
    *,
    precedence: Precedence = FIRST,
) -> RunResult:
    """Push an export into a cohort, or resume the push that an earlier command left.

    Returns the accounts of the run, even if it failed. Raises a `CohortSyncError` if it cannot
    begin: because of the configuration, the state folder, an export that changed, or another
    process that works on the cohort or sends. Raises `RunEndedError` if the run to resume has ended
    before this call holds the cohort.
    """
    config = session.config
    workspace = config.workspace
    envelope = Envelope(workspace.partner, request.cohort, request.action)
    refuse_narrow_limit(envelope, config.packing.payload_bytes)
    refuse_unfit(workspace)
    key = CohortKey(workspace.partner, request.cohort.id)
    context = RunContext(session, key, observers, precedence)
    async with context.open(request.wait_seconds, sends=True) as (ledger, store):
        await refuse_ended(ledger.runs, request, config)
        records = await admit(ledger.runs, request, config)
        if records:
            await store.catch_up()
            await store.current()  # Detects a lost snapshot before anything is sent.
        else:
            await store.refuse_lost_ledger()  # Without it the cohort would seem not mirrored.
        await ledger.refuse_lost()
        behind = await ledger.runs.left_behind(key_of(request, config))
        if behind is not None:
            context.note(stays_unfinished(behind))
        execution = _PushExecution(request, context, ledger, store if records else None)
        with execution.sender as sender:
            await sender.acquire(request.wait_seconds)
            return await run_to_end(execution, execution.work)


def stays_unfinished(run: str) -> str:
    """Return a note that this command does not resume an unfinished run of its cohort."""
    return (
        f"run {run} of this cohort is unfinished, and stays so: this command names other files, "
        "reading options or another action, and begins a run of its own"
    )


def note_files(
    request: PushRequest, config: Config, now_utc_ns: int, note: Callable[[str], None]
) -> None:
    """Note which files are read, and whether they may be exports of several days.

    It does not block: only a mirror would treat the uids of an old file as desired.
    """
    files = files_of(request.source)
    if not files:
        return
    note(f"reading the export: {describe_files(files)}")
    guards = request.guards or config.guards
    spread = judge_spread(files, now_utc_ns, guards.max_spread_hours)
    if spread.is_bad or spread.is_unknown:
        hint = f"; {spread.hint}" if spread.hint else ""
        note(f"warning: {spread.sentence}{hint}")


def opening_of_push(request: PushRequest, config: Config) -> Opening:
    """Return the opening of a push that is not recorded, such as a dry run."""
    opening = run_context.opening_of(config, request.cohort, request.action.value)
    return replace(opening, expected_uids=lambda: _expected(request.source))


def _expected(source: Source) -> float | None:
    """Estimate how many uids a source has from the share that was read; None if it is unknown."""
    if not isinstance(source, MeasuresReading) or not source.share_read:
        return None
    return source.uids_read / source.share_read


def _has_changed(stop: Stop | None) -> bool:
    return stop is not None and isinstance(stop.error, ExportChangedError)


class _PushExecution:
    """The work of one process on one push."""

    def __init__(
        self,
        request: PushRequest,
        context: RunContext,
        ledger: Ledger,
        store: SnapshotStore | None,
    ) -> None:
        """With a `store`, the store's snapshot records what is sent."""
        self.ledger = ledger
        self.state: RunState | None = None
        self.sender = RunSender(context, ledger)
        self._request = request
        self._context = context
        self._config = context.config
        self._store = store

    async def work(self) -> Stop | None:
        """Begin, resume or, if requested, restart the run, and deliver its batches.

        Raises the error that prevents the run from beginning or that stops it.
        """
        stop = await self._run(restart=False)
        restarts = self._request.restart_if_changed and is_rereadable(self._request.source)
        if restarts and _has_changed(stop):
            stop = await self._run(restart=True)
        return stop

    async def _run(self, *, restart: bool) -> Stop | None:
        request, config, context = self._request, self._config, self._context
        runs = self.ledger.runs
        state = await self._enter(restart=restart)
        known = await runs.known_batches(state.run.number)
        known_uids = sum(batch.uid_count for batch in known)
        settled = await runs.uids_settled(state.run.number)
        opening = entered(opening_of_push(request, config), state, known_uids, settled)
        context.observers.opened(opening)
        if request.allowances:
            lifts = attributed(request.allowances, request.reason)
            await runs.keep_lifted_guards(state.run.number, lifts)
        note_files(request, config, context.clock.stamp().utc_ns, context.note)
        envelope = Envelope(config.workspace.partner, request.cohort, request.action)
        cutter = Cutter(envelope, Limit.of(config.packing.payload_bytes), known)
        batches = cutter.batches(context.precedence.reading(request.source.blocks()))
        if self._store is not None:
            stop = await self._record(self._store, state, cutter.limit, batches, known_uids)
        else:
            stop = await self._deliver(state, cutter.limit, batches)
        # After an error of the source no thread reads, so the cutter does not change.
        if stop is not None and isinstance(stop.error, SourceError) and cutter.uidless:
            is_complete = isinstance(stop.error, EmptyExportError)
            with suppress(IncompleteError):  # The disk is full: report the export's error.
                await runs.enter_rows_without_uids(
                    state.run.number, cutter.uidless, is_complete=is_complete
                )
        return stop

    async def _enter(self, *, restart: bool) -> RunState:
        request = self._request
        source = request.source
        begin = self.ledger.runs.begin(
            key_of(request, self._config),
            RunCommand(request.spec, files_of(source)),
            self._context.limits,
            restart=restart or await self._begins_anew(),
            restart_if_overtaken=request.restart_if_changed,
        )
        return await enter(self, begin)

    async def _begins_anew(self) -> bool:
        """Return whether the unfinished run is not resumed.

        It sent unrecorded uids, or excluded others.
        """
        runs = self.ledger.runs
        found = await runs.unfinished(key_of(self._request, self._config).identity)
        if found is None:
            return False
        begins_to_record = self._store is not None and await runs.has_unrecorded_batches(
            found.number
        )
        return begins_to_record or await excludes_others(runs, self._request, found.number)

    async def _record(
        self,
        store: SnapshotStore,
        state: RunState,
        limit: Limit,
        batches: Iterator[Batch],
        known_uids: int,
    ) -> Stop | None:
        """Deliver batches, each after its uids are kept for the snapshot."""
        await self.ledger.runs.record_changes(state.run.number)
        folder = store.make_plan_folder(state.run.name)
        operation = Operation(self._request.action)
        permission = WritePermission()
        recorded = recording(batches, folder, operation, known_uids, permission.held)
        recent = await store.recent(but=state.run.number)
        stop = await self.sender.wait_to_settle(recent.seconds, state)
        try:
            return stop or await self._deliver(state, limit, recorded)
        finally:  # After a stop, the thread that reads ahead may still wait for the export.
            await run_in_thread(permission.withdraw)

    async def _deliver(
        self, state: RunState, limit: Limit, batches: Iterator[Batch]
    ) -> Stop | None:
        left_open = await self.ledger.runs.open_batches(state.run.number)
        return await self.sender.deliver(state, limit, batches, left_open)

    @property
    def pace(self) -> PaceRecord | None:
        """How this process used the ceiling; None if it did not begin to send."""
        return self.sender.pace

    async def fold(self, accounts: Accounts | None, stop: Stop | None) -> None:
        """Fold what was sent into the snapshot, if it records this push."""
        del accounts, stop
        self.sender.release()  # The fold takes long if the snapshot is large.
        if self._store is not None:
            await self._store.catch_up()

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Return how the run ends."""
        if stop is not None:
            status = status_of(stop.exit_status, stop.error)
            return End(status, stop.exit_status, stop.reason, stop.hint)
        exit_status = exit_status_of(accounts.uids, accounts.rows, self._config.accounting)
        reason = hint = None
        if exit_status is ExitStatus.INCOMPLETE:
            reason = "some uids are not confirmed"
            hint = "run the same command again: it sends them once more, which does no harm"
        if exit_status is ExitStatus.PARTIAL:
            reason = partial_reason(accounts.uids, accounts.rows, accounts.run)
        return End(status_of(exit_status), exit_status, reason, hint)
