"""What reports read of a ledger, as protocols: `engine.ledger.sqlite` implements them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from engine.ledger.plan_records import PlanRecord
from engine.ledger.run_records import (
    AttemptRecord,
    EarlierRejection,
    RejectRecord,
    RunRecord,
)
from engine.ledger.uid_records import (
    CohortRun,
    ExternalGeneration,
    SnapshotFile,
    UidAttempt,
    UidRejection,
    UnrecordedPushes,
)
from engine.model.cohort import CohortKey, Operation

if TYPE_CHECKING:  # Beside it stands what reads exports: large, and a list of runs reads none.
    from engine.source.source_file import SourceFile


class RunReads(Protocol):
    """The runs of a ledger; each method takes the name of one that the ledger knows."""

    def record(self, name: str, *, is_recounted: bool = False) -> RunRecord:
        """Return what the accounts of a run are folded from.

        Totals that are stored with the run are recounted if `is_recounted`: then `LedgerError` says
        that they are not what its batches and attempts add up to.
        """

    def plan(self, name: str) -> PlanRecord | None:
        """Return what a mirror plans; None for a push, or if it ended before it had planned."""

    def files(self, name: str) -> "Sequence[SourceFile]":
        """Return the files of a run in the order in which they are read."""

    def lifted_guards(self, name: str) -> Sequence[dict[str, Any]]:
        """Return which guards were lifted for a push, by whom and why."""

    def attempts(self, name: str) -> Iterator[AttemptRecord]:
        """Yield every attempt beside its batch, by batch; batches without an attempt too."""

    def rejects(self, name: str) -> Iterator[RejectRecord]:
        """Yield every uid that was rejected and the rows that planned none, in export order."""

    def earlier_rejection(self, uid: str, run: str) -> EarlierRejection:
        """Return the last rejection of a uid by an earlier run of the same cohort."""


class UidReads(Protocol):
    """What bears on a uid of a cohort; recorded runs are those whose uids are kept in files."""

    def knows_cohort(self, key: CohortKey) -> bool:
        """Say whether the ledger has any run or snapshot of a cohort."""

    def current_snapshot(self, key: CohortKey) -> SnapshotFile | None:
        """Return the snapshot that counts; None if the cohort was never mirrored."""

    def planned_from(self, key: CohortKey, run: int) -> SnapshotFile | None:
        """Return the snapshot that a mirror was planned from; None if there was none."""

    def last_external(self, key: CohortKey) -> ExternalGeneration | None:
        """Return the last snapshot that no run made; None if there is none."""

    def replaced_through(self, key: CohortKey) -> int:
        """Return the last attempt that a complete list of the members has made irrelevant; or 0."""

    def recorded_run(self, key: CohortKey, run: int) -> CohortRun | None:
        """Return a recorded run of the cohort by its number; None if it is none."""

    def recorded_since(self, key: CohortKey, attempt: int) -> Sequence[CohortRun]:
        """Return the recorded runs with an attempt after that one, the latest first."""

    def not_in_snapshot(self, key: CohortKey) -> Sequence[CohortRun]:
        """Return the recorded runs with attempts that no snapshot knows, the latest first."""

    def planned_runs(self, key: CohortKey) -> Sequence[CohortRun]:
        """Return the mirrors that have come to a plan, the latest first."""

    def last_attempt(self, run: int, operation: Operation, place: int) -> UidAttempt | None:
        """Return the last attempt of the batch that held a place; None if there was none."""

    def unrecorded_pushes(self, key: CohortKey) -> UnrecordedPushes | None:
        """Return the pushes whose uids no snapshot knows; None if there are none."""

    def rejections(self, key: CohortKey, uid: str) -> Sequence[UidRejection]:
        """Return each run's rejection of a uid, the earliest first."""
