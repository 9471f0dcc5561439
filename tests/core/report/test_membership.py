"""Whether a uid is in a cohort, by what the ledger says; no file holds any uid here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import LedgerError
from engine.ledger.uid_records import (
    CohortRun,
    ExternalGeneration,
    SnapshotFile,
    UidAttempt,
    UidRejection,
    UnrecordedPushes,
)
from engine.model.cohort import CohortKey, Operation
from engine.report.why import Document, UidInquiry

KEY = CohortKey("partner", "cohort-1")
PUSHES = UnrecordedPushes(2, "run-7", "add", "finished", 0)
EPOCH = "1970-01-01T00:00:00.000+00:00"


@dataclass
class Reads:
    """A ledger in memory of which no run has uids in files."""

    snapshot: SnapshotFile | None = None
    pushes: UnrecordedPushes | None = None
    runs: Sequence[CohortRun] = ()
    rejected: Sequence[UidRejection] = ()

    def knows_cohort(self, _: CohortKey) -> bool:
        return True

    def current_snapshot(self, _: CohortKey) -> SnapshotFile | None:
        return self.snapshot

    def planned_from(self, _: CohortKey, run: int) -> SnapshotFile | None:
        del run
        return None

    def last_external(self, _: CohortKey) -> ExternalGeneration | None:
        return None

    def replaced_through(self, _: CohortKey) -> int:
        return 0

    def recorded_run(self, _: CohortKey, run: int) -> CohortRun | None:
        return next((each for each in self.runs if each.number == run), None)

    def recorded_since(self, _: CohortKey, attempt: int) -> Sequence[CohortRun]:
        del attempt
        return self.runs

    def not_in_snapshot(self, _: CohortKey) -> Sequence[CohortRun]:
        return ()

    def planned_runs(self, _: CohortKey) -> Sequence[CohortRun]:
        return self.runs

    def last_attempt(self, run: int, operation: Operation, place: int) -> UidAttempt | None:
        raise NotImplementedError(run, operation, place)

    def unrecorded_pushes(self, _: CohortKey) -> UnrecordedPushes | None:
        return self.pushes

    def rejections(self, _: CohortKey, uid: str) -> Sequence[UidRejection]:
        del uid
        return self.rejected


def document(reads: Reads) -> Document:
    return UidInquiry(reads, Path("/nowhere"), KEY, "u1").report().to_dict()


def test_a_uid_of_a_cohort_without_a_snapshot_is_not_mirrored() -> None:
    found = document(Reads(pushes=PUSHES))
    assert (found["membership"], found["state"], found["generation"]) == (
        "not mirrored",
        None,
        None,
    )
    assert found["pushed"] == {
        "run": "run-7",
        "at": EPOCH,
        "action": "add",
        "status": "finished",
        "runs": 2,
    }


def test_a_snapshot_whose_file_was_dropped_is_an_error() -> None:
    with pytest.raises(LedgerError, match="generation 3 is no longer kept"):
        document(Reads(SnapshotFile(3, None)))


def test_a_plan_whose_files_are_gone_leaves_the_export_unknown() -> None:
    found = document(Reads(runs=[CohortRun(4, "run-4", 0)]))
    assert found["last_export"] == {"run": "run-4", "at": EPOCH, "had_it": None}


def test_rejections_are_listed_with_their_requests() -> None:
    found = document(Reads(rejected=[UidRejection("run-2", 0, "400: uid", "req-1")]))
    assert found["rejections"] == [
        {"run": "run-2", "at": EPOCH, "reason": "400: uid", "request_id": "req-1"}
    ]
