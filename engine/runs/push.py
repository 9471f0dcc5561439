"""A push from its command to its books: the parts are assembled here, and nowhere else.

`push` is what the command line calls, and what a program may call instead.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.clock import Clock, SystemClock
from engine.config.loading import Config
from engine.delivery.events import Observer
from engine.delivery.http import refuse_unfit
from engine.delivery.sender import Sender, StopSwitch, wait_or_stop
from engine.delivery.stop import Stop
from engine.errors import (
    EmptyExportError,
    ExitStatus,
    ExportChangedError,
    GuardError,
    IncompleteError,
    SourceError,
    UsageError,
)
from engine.ledger.records import ExecutionSettings, RunCommand, RunKey, RunReference, RunState
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.runs import RunStore, overtaken
from engine.model.cohort import Action, Cohort, CohortKey, Operation
from engine.pacing import PaceRecord
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit, refuse_narrow_limit
from engine.planning.allowances import Allowance, Guard, attributed, flags_to_lift
from engine.planning.file_times import judge_spread
from engine.report.accounts import Accounts, exit_status_of, partial_reason
from engine.report.figures import Ceiling
from engine.report.result import Opening, RunResult
from engine.runs.closing import End, enter, run_to_end, status_of
from engine.runs.session import Desk
from engine.snapshot.operation_uids import recording
from engine.snapshot.store import SnapshotStore
from engine.source.protocol import MeasuresReading, Source, Spec, files_of, is_rereadable
from engine.source.source_file import describe_files


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What is to be pushed, and how to deal with what an earlier run left."""

    source: Source
    spec: Spec
    """What `source` was opened from, for the ledger."""
    cohort: Cohort
    action: Action
    restart_if_changed: bool = False
    allowances: Sequence[Allowance] = ()
    """Only the guard `name` judges a push."""
    reason: str | None = None
    """Why it is lifted, in the words of whoever does it."""
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
    refuse_narrow_limit(envelope, config.packing.payload_bytes)
    refuse_unfit(workspace)
    key = CohortKey(workspace.partner, request.cohort.id)
    desk = Desk(config, key, observe, note, switch, clock)
    async with desk.open(request.wait_seconds) as (ledger, store):
        records = await admit(ledger.runs, request, config)
        if records:
            await store.catch_up()
            await store.current()  # A lost snapshot is noticed before anything is sent.
        else:
            await store.refuse_lost_ledger()  # Else nobody knows that the cohort is mirrored.
        await ledger.refuse_lost()
        behind = await ledger.runs.left_behind(key_of(request, config))
        if behind is not None:
            note(stays_unfinished(behind))
        execution = _Sitting(request, desk, envelope, ledger, store if records else None)
        return await run_to_end(execution, lambda: execution.work(opened))


def stays_unfinished(run: str) -> str:
    """Say that this command does not go on with an unfinished run of its cohort."""
    return (
        f"run {run} of this cohort is unfinished, and stays so: this command names other files, "
        "reading options or another action, and begins a run of its own"
    )


async def admit(runs: RunStore, request: PushRequest, config: Config) -> bool:
    """Say whether the snapshot is to follow this push, or the one that it goes on with.

    Raises `UsageError` for a push that would change a cohort behind its snapshot's back, or that
    cannot go on where it was, and `GuardError` for one that would rename the cohort.
    """
    key = CohortKey(config.workspace.partner, request.cohort.id)
    found = await runs.unfinished(key_of(request, config).identity)
    is_recorded = await _is_recorded(runs, request, key, found)
    await _refuse_other_name(runs, request, key)
    if found is not None and not request.restart_if_changed:
        later = await runs.later_run(found.number, key)
        if later is not None:
            raise overtaken(found.name, later, key.cohort_id)
    return is_recorded


async def _is_recorded(
    runs: RunStore, request: PushRequest, key: CohortKey, found: RunReference | None
) -> bool:
    if found is not None:
        is_unrecorded = await runs.has_unrecorded_batches(found.number)
        if request.records and is_unrecorded and not request.restart_if_changed:
            raise UsageError(
                f"run {found.name} was begun without --record: what it has sent so far is not "
                "recorded",
                hint="go on with it as it was begun, or pass --on-changed restart to begin anew",
            )
        if await runs.records_changes(found.number):
            return True
    if not request.records and await runs.is_mirrored(key):
        raise UsageError(
            f"cohort {request.cohort.id} is mirrored: a push would change what its snapshot knows",
            hint="mirror the export that it should be equal to, or pass --record, and the snapshot "
            "follows the push",
        )
    return request.records


async def _refuse_other_name(runs: RunStore, request: PushRequest, key: CohortKey) -> None:
    """Raise `GuardError` if the cohort is known by another name: its id may be wrong."""
    last = await runs.last_name(key)
    is_lifted = any(each.guard is Guard.NAME for each in request.allowances)
    if last is None or last == request.cohort.name or is_lifted:
        return
    flags = flags_to_lift([Allowance(Guard.NAME).flag], request.allowances, request.reason)
    raise GuardError(
        f"name: cohort {key.cohort_id} was called '{last}' and is '{request.cohort.name}' now: is "
        "the id right?",
        hint=f"if it is: {flags}",
    )


def tell_files(
    request: PushRequest, config: Config, now_utc_ns: int, note: Callable[[str], None]
) -> None:
    """Say which files are read, and whether they look like exports of several days.

    A push sends what it is given: only a mirror would take an old file's uids for wanted.
    """
    files = files_of(request.source)
    if not files:
        return
    note(f"reading the export: {describe_files(files)}")
    spread = judge_spread(files, now_utc_ns, config.guards.max_spread_hours)
    if spread.is_bad or spread.is_unknown:
        hint = f"; {spread.hint}" if spread.hint else ""
        note(f"warning: {spread.sentence}{hint}")


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
        expected_uids=lambda: _expected(request.source),
    )


def _expected(source: Source) -> float | None:
    """Estimate how many uids a source has, by the share that was read; None where none is known."""
    if not isinstance(source, MeasuresReading) or not source.share_read:
        return None
    return source.uids_read / source.share_read


def key_of(request: PushRequest, config: Config) -> RunKey:
    """Return what makes this request the same run as an earlier one."""
    workspace = config.workspace
    return RunKey(
        config.place.endpoint,
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
        self.ledger = ledger
        self.state: RunState | None = None
        self._request = request
        self._desk = desk
        self._config = desk.config
        self._envelope = envelope
        self._store = store
        self._sender: Sender | None = None

    async def work(self, opened: Callable[[Opening], None]) -> Stop | None:
        """Begin or resume the run, and deliver what there is; begin anew where that is asked for.

        Raises what keeps it from beginning, and what stops it.
        """
        stop = await self._run(opened, restart=False)
        restarts = self._request.restart_if_changed and is_rereadable(self._request.source)
        if restarts and _has_changed(stop):
            stop = await self._run(opened, restart=True)
        return stop

    async def _run(self, opened: Callable[[Opening], None], *, restart: bool) -> Stop | None:
        request, config, desk = self._request, self._config, self._desk
        source = request.source
        pacing = config.pacing
        settings = ExecutionSettings(
            pacing.requests, pacing.per_seconds, config.packing.payload_bytes
        )
        begin = self.ledger.runs.begin(
            key_of(request, config),
            RunCommand(request.spec, files_of(source)),
            settings,
            restart=restart or await self._begins_to_record(),
            restart_if_overtaken=request.restart_if_changed,
        )
        state = await enter(self, begin)
        known = await self.ledger.runs.known_batches(state.run)
        known_uids = sum(batch.uid_count for batch in known)
        settled = await self.ledger.runs.uids_settled(state.run)
        opened(opening_of(request, config, state, known_uids, settled))
        if request.allowances:
            lifts = attributed(request.allowances, request.reason)
            await self.ledger.runs.keep_lifted_guards(state.run, lifts)
        tell_files(request, config, desk.clock.stamp().utc_ns, desk.note)
        cutter = Cutter(self._envelope, Limit.of(config.packing.payload_bytes), known)
        batches = cutter.batches(request.source.blocks())
        stop = None
        if self._store is not None:
            batches = await self._record(self._store, batches, state, known_uids)
            recent = await self._store.recent(but=state.run)
            stop = await wait_or_stop(recent.seconds, desk.switch, desk.observe)
        async with Sender.open(
            config, self.ledger.sends, desk.clock, desk.observe, desk.switch
        ) as sender:
            self._sender = sender
            left_open = await self.ledger.runs.open_batches(state.run)
            stop = stop or await sender.deliver(state, cutter.limit, batches, left_open)
        # After an error of the source nobody reads on, so that the cutter stands still.
        if stop is not None and isinstance(stop.error, SourceError) and cutter.uidless:
            is_complete = isinstance(stop.error, EmptyExportError)
            with suppress(IncompleteError):  # A full disk: the export's error is what to tell.
                await self.ledger.runs.enter_rows_without_uids(
                    state.run, cutter.uidless, is_complete=is_complete
                )
        return stop

    async def _begins_to_record(self) -> bool:
        """Whether an unfinished run has sent what was not recorded: that is not gone on with."""
        if self._store is None:
            return False
        runs = self.ledger.runs
        found = await runs.unfinished(key_of(self._request, self._config).identity)
        return found is not None and await runs.has_unrecorded_batches(found.number)

    async def _record(
        self, store: SnapshotStore, batches: Iterator[Batch], state: RunState, known_uids: int
    ) -> Iterator[Batch]:
        """Return the batches, each once its uids are kept for the snapshot."""
        await self.ledger.runs.record_changes(state.run)
        folder = store.make_plan_folder(state.name)
        return recording(batches, folder, Operation(self._request.action), known_uids)

    @property
    def pace(self) -> PaceRecord | None:
        """How this process kept to the ceiling; None if it never came to sending."""
        return self._sender.pacer.record() if self._sender else None

    async def fold(self, accounts: Accounts | None, stop: Stop | None) -> None:
        """Let the snapshot know of what was sent, if it follows this push."""
        del accounts, stop
        if self._store is not None:
            await self._store.catch_up()

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Say how the run stands."""
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
