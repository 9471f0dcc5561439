"""Whether a uid is in a cohort, by what the ledger says; no file holds any uid here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from run_entries import ENTRY

from engine.clock import Stamp
from engine.errors import LedgerError
from engine.ledger.run_records import RunEntry, UidAttempt, UidRejection
from engine.ledger.snapshot_records import Generation
from engine.model.cohort import CohortKey, Operation
from engine.report.why import Document, UidInquiry

KEY = CohortKey("partner", "cohort-1")
RUN = replace(
    ENTRY,
    number=4,
    name="run-4",
    partner="partner",
    cohort_id="cohort-1",
    started_utc_ns=0,
    finished_utc_ns=0,
)
DROPPED = Generation(3, None, None, b"", 0, 0, 0, "adopt", Stamp("", 0, 0), 0)
PUSHES = (RUN, replace(RUN, number=7, name="run-7"))
EPOCH = "1970-01-01T00:00:00.000+00:00"


@dataclass
class Reads:
    """A ledger in memory of which no run has uids in files, so that none was attempted by place."""

    snapshots: Sequence[Generation] = ()
    pushes: Sequence[RunEntry] = ()
    runs: Sequence[RunEntry] = ()
    rejected: Sequence[UidRejection] = ()

    def generations(self, _: CohortKey) -> Sequence[Generation]:
        return self.snapshots

    def plan_of(self, run: int) -> None:
        del run

    def is_partial(self, _: CohortKey) -> bool:
        return False

    def recorded_run(self, _: CohortKey, run: int) -> Sequence[RunEntry]:
        return [each for each in self.runs if each.number == run]

    def recorded_since(self, _: CohortKey, attempt: int) -> Sequence[RunEntry]:
        del attempt
        return self.runs

    def not_in_snapshot(self, _: CohortKey) -> Sequence[RunEntry]:
        return ()

    def planned_runs(self, _: CohortKey) -> Sequence[RunEntry]:
        return self.runs

    def last_attempt(self, run: int, operation: Operation, place: int) -> UidAttempt | None:
        del run, operation, place
        return None

    def unrecorded_pushes(self, _: CohortKey) -> Sequence[RunEntry]:
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
        document(Reads([DROPPED]))


def test_a_plan_whose_files_are_gone_leaves_the_export_unknown() -> None:
    found = document(Reads(runs=[RUN]))
    assert found["last_export"] == {"run": "run-4", "at": EPOCH, "had_it": None}


def test_rejections_are_listed_with_their_requests() -> None:
    found = document(Reads(rejected=[UidRejection("run-2", 0, "400: uid", "req-1")]))
    assert found["rejections"] == [
        {"run": "run-2", "at": EPOCH, "reason": "400: uid", "request_id": "req-1"}
    ]
