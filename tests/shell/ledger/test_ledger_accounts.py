"""A run's accounts, from real rows: leaves only, over all restarts, and they balance."""

import shutil
from dataclasses import replace

import pytest
from ledger_entries import (
    COMMAND,
    KEY,
    PACE,
    SETTINGS,
    HandClock,
    accounts_of,
    halves,
    registration,
    tampering,
    verdict,
)

from engine.errors import ExitStatus
from engine.ledger.records import (
    Division,
    ExecutionSettings,
    RejectedUid,
    RunState,
    Settlement,
)
from engine.ledger.sqlite.ledger import Ledger
from engine.model.status import BatchState
from engine.payload.batch import SkippedRows
from engine.report.accounts import Accounts, CeilingSpending, Requests, RowCounts, Standing
from engine.report.accounts_from_ledger import account
from engine.source.block import Skipped

ACCEPTED = Settlement(BatchState.ACCEPTED)
NOWHERE = Settlement(BatchState.UNCONFIRMED, "500")


class Run:
    """A run whose requests are a second apart."""

    def __init__(self, ledger: Ledger, clock: HandClock, state: RunState) -> None:
        self.ledger, self.clock, self.state = ledger, clock, state

    async def send(
        self,
        number: int,
        outcome: str,
        change: Settlement | Division | None = None,
        *,
        attempt: int = 1,
        applied: bool = False,
    ) -> None:
        self.clock.advance(1)
        await self.ledger.sends.intend(self.state, (), number, attempt)
        how = verdict(self.clock, outcome, applied=applied, sent=outcome != "not_sent")
        await self.ledger.sends.conclude(self.state, number, attempt, how, change)


SKIPPED = (
    SkippedRows("a.csv", Skipped(5, 2, "blank")),
    SkippedRows("a.csv", Skipped(9, 1, "invalid UTF-8")),
)


async def eventful(ledger: Ledger, clock: HandClock) -> Run:
    """Live through all that can become of a batch, in two executions; 47 of 50 rows hold uids."""
    run = Run(ledger, clock, await ledger.runs.begin(KEY, COMMAND, SETTINGS))
    first = registration(1, 0, 10, SKIPPED, records_through=13)
    await ledger.sends.intend(run.state, [first], 1, 1)
    clock.advance(1)
    await ledger.sends.conclude(run.state, 1, 1, verdict(clock, "unconfirmed", applied=True), None)
    await run.send(1, "accepted", ACCEPTED, attempt=2)

    await ledger.sends.intend(run.state, [registration(2, 10, 10, records_through=23)], 2, 1)
    clock.advance(1)
    await ledger.sends.conclude(run.state, 2, 1, verdict(clock, "too_large"), halves(6, 10, 10))
    await run.send(6, "accepted", ACCEPTED)
    await run.send(7, "rejected", halves(8, 15, 5, isolated=True))
    await run.send(9, "accepted", ACCEPTED)

    await ledger.sends.intend(run.state, [registration(3, 20, 1, records_through=24)], 3, 1)
    uid = RejectedUid("a.csv", 24, "bad", "400: uid", "req-9")
    clock.advance(1)
    settlement = Settlement(BatchState.REJECTED, "400: uid", uid)
    await ledger.sends.conclude(run.state, 3, 1, verdict(clock, "rejected"), settlement)

    await ledger.runs.finish(run.state, "incomplete", ExitStatus.INCOMPLETE, "stopped", PACE)
    clock.advance(1000)
    lower = ExecutionSettings(requests=10, per_seconds=20.0, payload_bytes=64_000)
    run.state = await ledger.runs.begin(KEY, COMMAND, lower)

    tail = registration(5, 31, 16, records_through=50, is_last=True)
    await ledger.sends.intend(run.state, [registration(4, 21, 10, records_through=34), tail], 4, 1)
    clock.advance(1)
    await ledger.sends.conclude(run.state, 4, 1, verdict(clock, "throttled"), None)
    await run.send(4, "unconfirmed", NOWHERE, attempt=2, applied=True)
    await run.send(5, "not_sent")
    return run


async def test_every_row_and_uid_is_where_it_should_be(ledger: Ledger, clock: HandClock) -> None:
    run = await eventful(ledger, clock)
    found = accounts_of(ledger, run.state)
    assert found.rows == RowCounts(read=50, blank=2, invalid=1)
    # 10 of the first batch, 5 and 3 of the parts of the second; 2 parts of it are still to come.
    assert found.uids == Standing(47, accepted=18, rejected=1, unconfirmed=10, pending=18)
    assert found.batches == Standing(7, accepted=3, rejected=1, unconfirmed=1, pending=2)
    assert found.requests == Requests(sent=9, accepted=3, throttled=1, retried=2, split=2)
    assert found.imbalance is None
    assert found.source_complete


async def test_figures_are_over_all_executions(ledger: Ledger, clock: HandClock) -> None:
    run = await eventful(ledger, clock)
    found = accounts_of(ledger, run.state)
    sent = [300, 300, 300, 200, 200, 160, 120, 300, 300]
    assert found.bytes_sent == sum(sent)
    assert found.payload_fill == round(sum(sent) / (7 * 128_000 + 2 * 64_000), 6)
    # The first execution's pace is recorded; the second, with two in a second, has yet to say.
    assert found.ceiling_spending == CeilingSpending(
        allowed=10 + 1.5, used=8 + 2, held=1.5, late=0.5, unrecorded=-0.5
    )
    assert found.ceiling_use == round(10 / 11.5, 6)
    assert found.elapsed_seconds == 7
    assert (found.ceiling.requests, found.ceiling.per_seconds) == (10, 20.0)


async def test_the_document_says_where_to_and_how_it_ended(
    ledger: Ledger, clock: HandClock
) -> None:
    run = await eventful(ledger, clock)
    await ledger.runs.finish(run.state, "incomplete", ExitStatus.INCOMPLETE, "a signal", PACE)
    document = accounts_of(ledger, run.state).to_dict()
    assert document["run"] == run.state.run.name
    assert (document["status"], document["exit_status"]) == ("incomplete", 75)
    assert document["reason"] == "a signal"
    assert document["target"] == "EMULATOR 127.0.0.1:8765"
    output = ("workspace", "partner", "cohort_id", "cohort_name", "action")
    assert [document[key] for key in output] == ["WS", "partner", "cohort-1", "Buyers", "add"]
    assert document["finished_at"] > document["started_at"]


async def test_an_intent_whose_outcome_is_unknown_is_unconfirmed(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    entries = [registration(1, 0, 10), registration(2, 10, 5)]
    await ledger.sends.intend(state, entries, 1, 1)
    under_way = accounts_of(ledger, state)
    assert under_way.uids == Standing(15, unconfirmed=10, pending=5)
    assert under_way.requests.sent == 1
    await ledger.recover()
    assert accounts_of(ledger, state).uids == under_way.uids
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    await ledger.sends.intend(state, (), 1, 2)
    await ledger.sends.conclude(state, 1, 2, verdict(clock), ACCEPTED)
    assert accounts_of(ledger, state).uids == Standing(15, accepted=10, pending=5)


async def test_a_run_that_sent_nothing_has_accounts_too(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    found = accounts_of(ledger, state)
    assert (found.rows, found.uids, found.batches) == (RowCounts(), Standing(), Standing())
    assert (found.requests, found.payload_fill, found.ceiling_use) == (Requests(), 0, 0)
    assert found.imbalance is None
    assert not found.source_complete


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE batch SET uid_count = uid_count + 1 WHERE batch = 1",
        "UPDATE batch SET uid_count = uid_count - 1 WHERE batch = 8",
        "UPDATE batch SET blank = blank + 1, invalid = invalid - 1 WHERE batch = 1",
        "UPDATE batch SET invalid = 0",
        "UPDATE batch SET records_through = records_through + 1 WHERE is_last",
        "UPDATE skipped SET count = count - 1 WHERE reason = 'blank'",
        "DELETE FROM skipped WHERE reason = 'blank'",
        "UPDATE batch SET state = 'accepted' WHERE state = 'split' AND parent IS NULL",
        "UPDATE batch SET state = 'split' WHERE batch = 4",
        "DELETE FROM attempt; DELETE FROM rejected; DELETE FROM batch WHERE batch = 9",
        "DELETE FROM attempt; DELETE FROM rejected; DELETE FROM batch WHERE batch = 3",
    ],
)
async def test_a_row_that_was_tampered_with_shows(
    ledger: Ledger, clock: HandClock, harm: str
) -> None:
    run = await eventful(ledger, clock)
    assert accounts_of(ledger, run.state).imbalance is None
    with tampering(ledger.path) as connection:
        connection.executescript(harm)
    assert isinstance(accounts_of(ledger, run.state), Accounts)
    assert accounts_of(ledger, run.state).imbalance is not None


async def test_the_writer_can_read_a_run_whose_folder_was_removed(
    ledger: Ledger, clock: HandClock
) -> None:
    run = await eventful(ledger, clock)
    before = accounts_of(ledger, run.state)
    shutil.rmtree(ledger.path.parent)
    record, files = await ledger.run_record(run.state.run.name)
    # No process holds the lock here: only a look from outside takes the run for dead.
    assert replace(account(record), status=before.status, reason=before.reason) == before
    assert files == []
