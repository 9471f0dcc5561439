"""The interfaces that runs need.

Those of the ledger: each change is durable when its call returns. That of the engine of plans: what
compares exports with snapshots, and keeps the snapshots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from engine.delivery.ports import SendLog
from engine.delivery.sender import SendHistory
from engine.errors import CohortSyncError, ExitStatus, StateGoneError
from engine.ledger.plan_records import LastMirror, PlanRecord, Rejection
from engine.ledger.records import (
    ExecutionSettings,
    OpenBatch,
    RowsRead,
    RunCommand,
    RunKey,
    RunReference,
    RunState,
)
from engine.ledger.run_records import LastRun, RunRecord, RunTotals
from engine.ledger.sync_records import SyncRecord
from engine.model.cohort import CohortKey, Operation
from engine.model.status import RunStatus
from engine.notices.ports import NoticeStore
from engine.pacing.pacer import PaceRecord
from engine.payload.batch import KnownBatch, SkippedRows, UidlessRows
from engine.planning.conditions import Conditions
from engine.planning.query_export import QueryExport
from engine.snapshot.ports import SnapshotBackend, SnapshotIndex
from engine.snapshot.records import Comparison, Snapshot, Staged, UidList
from engine.source.source_file import SourceFile
from engine.storage.computation import ComputeOptions, Interruption

T = TypeVar("T")


class RunStore(Protocol):
    """The runs of a workspace."""

    async def unfinished(self, identity: bytes) -> RunReference | None:
        """Return the latest unfinished run with this identity."""

    async def later_run(self, run_number: int, key: CohortKey) -> str | None:
        """Return the name of a later run that has sent anything to the same cohort."""

    async def left_behind(self, key: RunKey) -> str | None:
        """Return the name of an unfinished push of the same cohort that `key` does not resume."""

    async def begin(
        self,
        key: RunKey,
        command: RunCommand,
        settings: ExecutionSettings,
        *,
        restart: bool = False,
        restart_if_overtaken: bool = False,
    ) -> RunState:
        """Resume the unfinished run of the same identity, or begin a new one.

        Raises `UsageError` if a later run has sent to the cohort, and the run is not restarted.
        """

    async def abandon(self, run: int, reason: str) -> None:
        """Close a run as abandoned: it is not resumed. Its accounts are kept."""

    async def begin_new(
        self, key: RunKey, command: RunCommand, settings: ExecutionSettings
    ) -> RunState:
        """Begin a new run, even if runs of the same identity are unfinished."""

    async def begin_execution(self, run: RunReference, settings: ExecutionSettings) -> RunState:
        """Record another process that works on a run."""

    async def progress(self, run: RunReference, execution: int) -> RunState:
        """Return the progress of a run."""

    async def finish(
        self,
        state: RunState,
        status: RunStatus,
        exit_status: ExitStatus,
        reason: str | None,
        pace: PaceRecord | None,
    ) -> int:
        """Close an execution, which sent nothing if it has no pace; record the run's status.

        Returns the recorded time, in ns since 1970.
        """

    async def store_totals(self, run_number: int, execution: int, totals: RunTotals) -> None:
        """Store the totals of a closed run, counted when `execution` was its last one.

        Nothing is stored if they may have changed since.
        """

    async def known_batches(self, run_number: int) -> list[KnownBatch]:
        """Return the batches cut so far, in the order of the export."""

    async def exclusion_digest(self, run_number: int) -> str | None:
        """Return the digest of the exclusion list that a push began with; None without one."""

    async def open_batches(self, run_number: int) -> list[OpenBatch]:
        """Return the batches that earlier executions left neither accepted nor rejected."""

    async def uids_settled(self, run_number: int) -> tuple[int, int]:
        """Return how many uids of a run are accepted, and how many rejected."""

    async def skip(self, run_number: int, number: int, skipped: Sequence[SkippedRows]) -> None:
        """Record rows that plan no uid, and the batch that they belong to."""

    async def enter_rows_read(
        self, run_number: int, rows: RowsRead, read: Sequence[SourceFile] = ()
    ) -> None:
        """Record how much of an export was read before any batch was cut, and from which files."""

    async def enter_rows_without_uids(
        self, run_number: int, rows: UidlessRows, *, is_complete: bool
    ) -> None:
        """Record the rows that were read of an export after its last batch."""

    async def record_changes(self, run_number: int) -> None:
        """Enable recording the outcomes of a run's batches in the cohort's snapshot."""

    async def records_changes(self, run_number: int) -> bool:
        """Return whether the cohort's snapshot records the outcomes of a run's batches."""

    async def has_unrecorded_batches(self, run_number: int) -> bool:
        """Return whether a run has cut batches whose uids are not kept for a snapshot."""

    async def is_mirrored(self, key: CohortKey) -> bool:
        """Return whether a snapshot records what is sent to the cohort."""

    async def last_name(self, key: CohortKey) -> str | None:
        """Return the cohort's name in the last run that sent to it; None if nothing was sent."""

    async def unrecorded_pushes(self, key: CohortKey) -> list[str]:
        """Return the runs that sent uids to the cohort that no snapshot records."""

    async def keep_lifted_guards(self, run_number: int, lifts: Sequence[Mapping[str, Any]]) -> None:
        """Record which guards were lifted for a push, by whom and why."""


class PlanStore(Protocol):
    """The plans of a workspace's mirrors."""

    async def enter(self, run_number: int, plan: PlanRecord, *, is_shadow: bool) -> None:
        """Record a mirror's plan."""

    async def plan_of(self, run_number: int) -> PlanRecord | None:
        """Return a mirror's plan; None if the mirror ended before it had planned."""

    async def open_plan(self, run_number: int) -> PlanRecord | None:
        """Return a plan that may still be sent; None if it is closed."""

    async def overtaken_by(self, run_number: int, key: CohortKey) -> str | None:
        """Return the name of a run that has changed the cohort after a plan was made."""

    async def set_generation(self, run_number: int, generation: int) -> None:
        """Record the generation that a plan is based on, after it has got a number."""

    async def seal(self, run_number: int, digests: Mapping[Operation, bytes]) -> None:
        """Record the digests of the files of a plan that is kept for `apply`."""

    async def seals(self, run_number: int) -> Mapping[Operation, bytes]:
        """Return the digests that `seal` recorded; none for a plan that was not kept."""

    async def close(self, run_number: int) -> None:
        """Record that no more of a plan is to be sent."""

    async def last_mirror(self, key: CohortKey) -> LastMirror | None:
        """Return the last mirror, with which the guards compare an export."""

    async def is_partial(self, key: CohortKey) -> bool:
        """Return whether uids that a cohort's snapshot does not have may be members."""

    async def resent_through(self, key: CohortKey) -> str | None:
        """Return the member that the last slice of resent members ended with."""

    async def rejections(self, key: CohortKey) -> list[Rejection]:
        """Return each uid that the API rejected, with the latest rejection for each action."""

    async def next_place(self, run_number: int, operation: Operation) -> int:
        """Return how many uids of an operation are already in batches."""


class SyncStore(Protocol):
    """The cohorts of the syncs of a workspace."""

    async def enter(self, records: Iterable[SyncRecord]) -> None:
        """Record the cohorts that a sync begins with, or replace them with how they ended."""

    async def since(self, utc_ns: int, partner: str | None = None) -> list[SyncRecord]:
        """Return the records of the syncs that began at `utc_ns` or later, the earliest first."""

    async def latest(self) -> list[SyncRecord]:
        """Return each cohort's record in the last sync that had it."""


class SharedSendLog(SendLog, SendHistory, Protocol):
    """The requests of a workspace, including those of other processes."""

    def probing(self) -> AbstractAsyncContextManager[None]:
        """Count the request of the block, which carries no uid, against the ceiling."""


class Ledger(Protocol):
    """A workspace's ledger, open for writing."""

    @property
    def runs(self) -> RunStore:
        """The runs."""

    @property
    def plans(self) -> PlanStore:
        """The plans of mirrors."""

    @property
    def snapshots(self) -> SnapshotIndex:
        """The snapshots that were made."""

    @property
    def syncs(self) -> SyncStore:
        """The syncs."""

    @property
    def notices(self) -> NoticeStore:
        """The notices of the syncs."""

    @property
    def sends(self) -> SharedSendLog:
        """The requests."""

    @property
    def gone(self) -> StateGoneError | None:
        """An error if the file was removed or replaced while it was in use, otherwise None."""

    async def run_record(self, name: str) -> tuple[RunRecord, list[SourceFile]]:
        """Return the record that a run's accounts are computed from, and the files that it read."""

    async def last_run(self, key: CohortKey) -> LastRun | None:
        """Return the last run of a cohort, without plans that were not sent."""

    async def close(self) -> None:
        """Finish all writes, and close the file; raises nothing."""

    async def interrupted_cohorts(self) -> list[CohortKey]:
        """Return the cohorts of runs that have not ended, including those that a process holds."""

    async def recover(self, key: CohortKey | None = None) -> None:
        """End the runs of a cohort that no process works on; the caller holds the cohort's lock."""

    async def store_missing_totals(self, is_stopped: Callable[[], bool]) -> None:
        """Store the totals of each closed run that has none, until `is_stopped`.

        It needs no lock, and may take long.
        """

    async def settle_all(self) -> None:
        """Conclude all requests without an outcome; the caller holds the sending lock."""

    async def refuse_lost(self) -> None:
        """Raise `LedgerError` if this ledger was made in place of a lost one."""

    def naming_damage(self) -> AbstractAsyncContextManager[None]:
        """Replace the block's error by one for damage to the file, if the damage caused it."""

    async def damage_behind(self, error: BaseException) -> CohortSyncError | None:
        """Return the damage to the file that may have caused `error`; None if there is none."""

    def outside_cause(self, error: Exception) -> CohortSyncError | None:
        """Return a named error for a database error with an external cause; None for others."""


class EngineComparison(Protocol):
    """One comparison of an export with a snapshot. The methods block, and run in threads."""

    def new_list(self) -> UidList:
        """Return a list of the schema `EXPORT`, for the rows of an export or of exclusions."""

    def compare(
        self,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        options: ComputeOptions,
        conditions: Conditions,
    ) -> Comparison:
        """Write the files of the operations into `folder`, as `planning.comparison.compare` does.

        `base` may also be a file that is not a generation yet. Each engine finds the same uids, of
        the same kinds; their order is its own. Raises `LedgerError` for a damaged snapshot or one
        that another machine has replaced, and the error of a stop.
        """


@runtime_checkable
class EvaluatesQueries(Protocol):
    """A comparison on an engine that also has the rows of an export, and evaluates its query."""

    def stage_query(self, export: QueryExport, interruption: Interruption) -> Staged:
        """Evaluate a query, and keep its uids where they are compared.

        A record is a row of the result, and so is `row`. Raises `SourceError` for what is wrong
        with the query, `SourceUnavailableError` and `IncompleteError` if it was ended, and the
        error of a stop.
        """


class PlanEngine(SnapshotBackend, Protocol):
    """What makes the plans of one cohort, and keeps what was acknowledged."""

    def comparing(
        self, folder: Path, options: ComputeOptions
    ) -> AbstractContextManager[EngineComparison]:
        """Yield a comparison; temporary files may lie in `folder`, the cohort's, meanwhile."""
