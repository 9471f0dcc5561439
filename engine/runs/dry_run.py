"""A dry run of a push: it checks everything that a push checks; it sends and writes nothing.

It reads the ledger if there is one, and the export to its end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine.config.loading import Config
from engine.delivery.proxy import proxy_for
from engine.delivery.stop import StopSwitch
from engine.errors import EmptyExportError, ExitStatus, ExportChangedError
from engine.ledger.locks import cohort_holder, holder_of
from engine.ledger.sqlite.reader import read_ledger
from engine.ledger.state_folder import refuse_unwritable
from engine.model.cohort import CohortKey
from engine.payload.batch import KnownBatch, RowCounter
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit, refuse_narrow_limit
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    Requests,
    RowCounts,
    Standing,
    exit_status_of,
    partial_reason,
)
from engine.report.run_results import RunResult
from engine.runs.arguments import Note
from engine.runs.context import NOBODY, RunObservers
from engine.runs.engines import store_of
from engine.runs.interruptible import read_or_stop
from engine.runs.ledger_reads import opened_in_thread
from engine.runs.ports import RunStore
from engine.runs.push import note_files, opening_of_push, stays_unfinished
from engine.runs.push_admission import PushRequest, admit, excludes_others, key_of
from engine.runs.session import WorkspaceSession
from engine.source.block import Block
from engine.source.protocol import files_of


async def dry_run(
    request: PushRequest,
    session: WorkspaceSession,
    observers: RunObservers = NOBODY,
    *,
    lacking: str | None = None,
) -> RunResult:
    """Check what `push` checks, read and pack everything; return what would be planned.

    `lacking` is what a push needs and a dry run does not; a note warns of it. An export without a
    uid is reported in the accounts. Raises as `push` does, except that a workspace in use is
    reported in a note. Raises `SourceError` if the export cannot be read.
    """
    config, note = session.config, observers.note
    observers.opened(opening_of_push(request, config))
    if lacking is not None:
        note(f"warning: {lacking}")
    started = datetime.now(UTC)
    proxy_for(config.workspace.endpoint)  # A malformed proxy would also stop the push.
    cutting = await _cut(request, session, observers)
    return cutting.result(started)


async def requests_left(request: PushRequest, session: WorkspaceSession, switch: StopSwitch) -> int:
    """Read the export to its end; return how many requests the push would send.

    Those that the run it resumes has settled do not count. Raises as `dry_run` does.
    """
    return (await _cut(request, session, RunObservers(switch=switch))).packed


async def _cut(
    request: PushRequest, session: WorkspaceSession, observers: RunObservers
) -> "_Cutting":
    """Cut the export as a push would; raises as `dry_run` does."""
    config, note = session.config, observers.note
    switch = observers.switch or session.switch
    cutting = _Cutting(request, config)
    known = await _check_state(request, session, note)
    note_files(request, config, session.clock.stamp().utc_ns, note)
    try:
        await read_or_stop(lambda: cutting.cut(known), switch)
    except ExportChangedError:
        if not request.restart_if_changed:
            raise
        cutting = _Cutting(request, config)
        await read_or_stop(lambda: cutting.cut(()), switch)
    return cutting


async def _check_state(
    request: PushRequest, session: WorkspaceSession, note: Note
) -> Sequence[KnownBatch]:
    """Check the ledger as a push does; return the batches of the run that it would resume."""
    config, clock = session.config, session.clock
    workspace = config.workspace
    folder = config.place.folder
    refuse_unwritable(folder)
    key = CohortKey(workspace.partner, request.cohort.id)
    if holder := cohort_holder(folder, key) or holder_of(folder):
        note(f"warning: the workspace is in use by {holder}: a push has to wait for it (--wait)")
    async with opened_in_thread(read_ledger(folder, clock)) as ledger:
        store = store_of(config, folder, ledger.snapshots, key, clock)
        if await admit(ledger.runs, request, config):
            await store.current()
        else:
            await store.refuse_lost_ledger()
        await ledger.read(lambda _: ledger.refuse_lost())
        run_key = key_of(request, config)
        if (behind := await ledger.runs.left_behind(run_key)) is not None:
            note(stays_unfinished(behind))
        found = await ledger.runs.unfinished(run_key.identity)
        if found is None or await _begins_anew(ledger.runs, request, key, found.number):
            return ()
        known = await ledger.runs.known_batches(found.number)
        uids = sum(batch.uid_count for batch in known)
        note(f"run {found.name} is unfinished: a push resumes it, and knows {uids:,} of its uids")
        return known


async def _begins_anew(runs: RunStore, request: PushRequest, key: CohortKey, run: int) -> bool:
    """Return whether a push would close the unfinished run and begin a new one."""
    if not request.restart_if_changed:
        return False
    later = await runs.later_run(run, key)
    if later is not None or await excludes_others(runs, request, run):
        return True
    return request.records and await runs.has_unrecorded_batches(run)


@dataclass(slots=True)
class _Cutting:
    """An export cut into batches that are not sent, and their totals."""

    request: PushRequest
    config: Config
    rows: RowCounter = field(default_factory=RowCounter)
    uids: int = 0
    batches: int = 0
    too_large: int = 0
    packed: int = 0
    """Batches that fit the limit, of those newly cut or still open."""
    bytes: int = 0
    reason: str | None = None
    _limit: int = field(init=False)
    _envelope: Envelope = field(init=False)

    def __post_init__(self) -> None:
        """Raise `UsageError` for a limit that leaves no room for a uid."""
        request = self.request
        self._limit = self.config.packing.payload_bytes
        self._envelope = Envelope(self.config.workspace.partner, request.cohort, request.action)
        refuse_narrow_limit(self._envelope, self._limit)

    def cut(self, known: Sequence[KnownBatch]) -> None:
        """Read the export to its end; raises as `Cutter.batches` does."""
        self.batches = len(known)
        cutter = Cutter(self._envelope, Limit.of(self._limit), known)
        try:
            for batch in cutter.batches(self._blocks()):
                self.batches += batch.number is None
                fits = len(batch.payload) <= self._limit
                self.too_large += not fits
                self.packed += fits
                self.bytes += len(batch.payload) if fits else 0
        except EmptyExportError as error:
            self.reason = error.message

    def _blocks(self) -> Iterator[Block]:
        for block in self.request.source.blocks():
            self.rows.add(block)
            self.uids += len(block.uids)
            yield block

    def result(self, started: datetime) -> RunResult:
        """Return the accounts, in which everything planned is pending."""
        request, config = self.request, self.config
        workspace, finished = config.workspace, datetime.now(UTC)
        rows = RowCounts(self.rows.records, self.rows.blank, self.rows.invalid, self.rows.excluded)
        would_finish = (
            exit_status_of(Standing(rejected=self.too_large), rows, config.accounting)
            if self.reason is None
            else EmptyExportError.exit_status
        )
        reason = self.reason
        if would_finish is ExitStatus.PARTIAL:
            reason = partial_reason(Standing(rejected=self.too_large), rows, None)
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
            ceiling=Ceiling.of(config.pacing),
            source_complete=True,
            rows=rows,
            uids=Standing(planned=self.uids, pending=self.uids),
            batches=Standing(planned=self.batches, pending=self.batches),
            requests=Requests(),
            bytes_sent=0,
            payload_fill=round(self.bytes / (self._limit * max(self.packed, 1)), 6),
            ceiling_use=0.0,
            ceiling_spending=CeilingSpending(),
            ceiling_found=None,
            margin_seconds=0.0,
            started_at=started.isoformat(timespec="milliseconds"),
            finished_at=finished.isoformat(timespec="milliseconds"),
            elapsed_seconds=round((finished - started).total_seconds(), 3),
        )
        return RunResult(accounts, would_finish, files=files_of(request.source))
