"""How the accounts of a run are folded from what the ledger says of it, without a ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from run_entries import ENTRY, SECOND

from engine.errors import LedgerError
from engine.ledger.plan_records import OperationCounts, PlanRecord
from engine.ledger.run_records import (
    AttemptRecord,
    EarlierRejection,
    ExecutionRecord,
    PlannedTotal,
    RejectRecord,
    RunRecord,
    RunTotals,
    SendSpan,
    StandingTotal,
)
from engine.model.cohort import Action, Operation
from engine.pacing.budget import Spending
from engine.pacing.pacer import PaceRecord
from engine.report.accounts import CeilingSpending, Requests, RowCounts, Standing
from engine.report.accounts_from_ledger import account
from engine.report.history import ATTEMPT_COLUMNS, RunReport
from engine.source.source_file import SourceFile

TOTALS = RunTotals(
    records=12,
    blank=1,
    invalid=1,
    standings=[StandingTotal("accepted", "add", 1, 6), StandingTotal("rejected", "add", 1, 4)],
    planned=[PlannedTotal("add", 10)],
    roots=1,
    splits=1,
    sent=3,
    accepted=1,
    throttled=0,
    retried=1,
    split=1,
    bytes=300,
    room=600,
    rejected_again=0,
    spans=[SendSpan(1, 3, 2 * SECOND)],
)
SPENDING = Spending(allowed=11.0, used=3, lost={"held": 8.0})
PACE = PaceRecord(SPENDING, found=200, margin_seconds=0.5)
FIRST = ExecutionRecord(1, 300, 60.0, "", 0, 5 * SECOND, PACE)
PUSH = RunRecord(ENTRY, TOTALS, [FIRST], None)
PLAN = PlanRecord(
    generation=3,
    first_action=Action.ADD,
    duplicate=2,
    unchanged=5,
    operations={
        Operation.ADD: OperationCounts(plain=10, known=2),
        Operation.REMOVE: OperationCounts(plain=3, held=1),
        Operation.RESEND: OperationCounts(),
    },
    resent_through=None,
    exported_utc_ns=None,
    profile={},
    verdicts=(),
    allowances=(),
    forecast={"notes": ["one"]},
)
MIRROR = replace(
    PUSH,
    entry=replace(ENTRY, action="mirror"),
    totals=replace(TOTALS, records=21, rejected_again=4),
    plan=PLAN,
)


def test_the_accounts_of_a_push_balance() -> None:
    found = account(PUSH)
    assert found.rows == RowCounts(12, 1, 1)
    assert found.uids == Standing(10, accepted=6, rejected=4)
    assert found.batches == Standing(2, accepted=1, rejected=1)
    assert found.requests == Requests(3, 1, 0, 1, 1)
    assert (found.payload_fill, found.elapsed_seconds) == (0.5, 5.0)
    assert found.target == "EMULATOR 127.0.0.1:8765"
    assert found.mirror is None
    assert found.imbalance is None


def test_the_ceiling_is_spent_as_each_process_recorded_it() -> None:
    died = ExecutionRecord(2, 60, 60.0, "", 10 * SECOND, None, None)
    spans = [*TOTALS.spans, SendSpan(2, 2, 3 * SECOND)]
    found = account(replace(PUSH, totals=replace(TOTALS, spans=spans), executions=[FIRST, died]))
    # The second left no record: 3 seconds at 1 a second leave room for 4, of which 2 were sent.
    assert found.ceiling_spending == CeilingSpending(11 + 4, 3 + 2, held=8.0, unrecorded=2.0)
    assert (found.ceiling.requests, found.ceiling_found, found.margin_seconds) == (60, None, 0.0)
    assert found.elapsed_seconds == 5.0


def test_what_a_mirror_did_not_send_is_pending_or_rejected_before() -> None:
    found = account(MIRROR)
    assert found.mirror is not None
    assert found.mirror.add == Standing(12, accepted=6, rejected=4 + 2)
    assert found.mirror.remove == Standing(4, pending=4)
    assert found.mirror.known_rejects == 2 + 4
    assert found.mirror.notes == ("one",)
    assert found.rows == RowCounts(21, 1, 1)
    assert found.imbalance is None


def test_the_rows_of_a_mirror_without_a_plan_are_undecided() -> None:
    totals = replace(TOTALS, standings=[], planned=[], roots=0, splits=0, spans=[])
    found = account(replace(MIRROR, plan=None, totals=totals))
    assert found.mirror is not None
    assert found.mirror.undecided == 10
    assert found.imbalance is None


@pytest.mark.parametrize(
    "harmed",
    [
        replace(TOTALS, standings=[StandingTotal("odd", "add", 1, 10)]),
        replace(TOTALS, standings=[StandingTotal("accepted", "odd", 1, 10)]),
        replace(TOTALS, planned=[PlannedTotal("odd", 10)]),
        replace(TOTALS, spans=[SendSpan(2, 3, SECOND)]),
    ],
)
def test_totals_that_make_no_sense_are_damage(harmed: RunTotals) -> None:
    with pytest.raises(LedgerError, match="corrupt") as caught:
        account(replace(PUSH, totals=harmed))
    assert caught.value.hint


@pytest.mark.parametrize(
    "harmed",
    [
        replace(PUSH, entry=replace(ENTRY, endpoint="nowhere")),
        replace(
            PUSH,
            executions=[
                replace(FIRST, pace=replace(PACE, spending=replace(SPENDING, lost={"odd": 1.0})))
            ],
        ),
    ],
)
def test_a_record_that_makes_no_sense_is_damage(harmed: RunRecord) -> None:
    with pytest.raises(LedgerError, match="corrupt"):
        account(harmed)


@dataclass
class Reads:
    """A ledger of one run, in memory; no earlier run is kept."""

    found: RunRecord = PUSH
    attempted: Sequence[AttemptRecord] = ()
    rejected: Sequence[RejectRecord] = ()
    lifted: Sequence[dict[str, Any]] = ()
    listed: list[SourceFile] = field(default_factory=list)

    def record(self, name: str, *, is_recounted: bool = False) -> RunRecord:
        del name, is_recounted
        return self.found

    def plan(self, name: str) -> PlanRecord | None:
        del name
        return self.found.plan

    def files(self, name: str) -> Sequence[SourceFile]:
        del name
        return self.listed

    def lifted_guards(self, name: str) -> Sequence[dict[str, Any]]:
        del name
        return self.lifted

    def attempts(self, name: str) -> Iterator[AttemptRecord]:
        del name
        return iter(self.attempted)

    def rejects(self, name: str) -> Iterator[RejectRecord]:
        del name
        return iter(self.rejected)

    def earlier_rejection(self, uid: str, run: str) -> EarlierRejection | None:
        del uid, run
        return None


def report(reads: Reads) -> RunReport:
    return RunReport(reads, Path("/nowhere"), "run-1")


def test_a_run_that_no_process_works_on_is_incomplete() -> None:
    running = replace(PUSH, entry=replace(ENTRY, status="running", finished_utc_ns=None))
    found = report(Reads(running)).accounts()
    assert (found.status, found.reason, found.finished_at) == (
        "incomplete",
        "the process died",
        None,
    )


def test_rows_that_follow_each_other_are_listed_one_by_one() -> None:
    reads = Reads(
        rejected=[
            RejectRecord("invalid", "a.csv", 2, 2, "invalid UTF-8", None, None),
            RejectRecord("rejected", "a.csv", 9, 1, "400", "u1", "req-1"),
        ]
    )
    places = report(reads).rejects()
    assert [(each.kind, each.record, each.uid) for each in places] == [
        ("invalid", 2, None),
        ("invalid", 3, None),
        ("rejected", 9, "u1"),
    ]


def test_attempts_have_the_documented_keys_and_times_in_utc() -> None:
    at = 1_700_000_000 * SECOND
    sent = AttemptRecord(
        *(1, None, 0, 10, 300, "accepted"),
        *(1, at, at, None, None, None, None, None),
        may_have_been_applied=False,
    )
    [document] = report(Reads(attempted=[sent])).attempts()
    assert tuple(document) == ATTEMPT_COLUMNS
    assert document["sent_at"] == "2023-11-14T22:13:20.000+00:00"
    assert document["ended_at"] is None
