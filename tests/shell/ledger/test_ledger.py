"""The ledger on real SQLite: what is entered, when it is durable, and what a restart finds."""

import asyncio
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from ledger_entries import (
    ACCEPTED,
    KEY,
    SECOND,
    HandClock,
    begin,
    finish,
    halves,
    registration,
    rows,
    send,
    verdict,
)

from engine.clock import SystemClock
from engine.errors import LedgerError
from engine.ledger.records import RejectedUid, RunState, Settlement
from engine.ledger.sqlite.ledger import Ledger, open_shared
from engine.ledger.sqlite.reader import read_ledger
from engine.ledger.sqlite.schema import open_ledger
from engine.model.cohort import Cohort
from engine.model.status import BatchState
from engine.payload.batch import SkippedRows
from engine.source.block import Skipped

PATIENCE_SECONDS = 60.0


async def test_an_intent_is_on_the_disk_when_it_returns(ledger: Ledger) -> None:
    state = await begin(ledger)
    blank = SkippedRows("export.csv", Skipped(3, 2, "blank"))
    entries = [registration(1, 0, 10), registration(2, 10, 5, (blank,), records_through=17)]
    await ledger.sends.intend(state, entries, 2, 1)
    assert rows(ledger.path, "SELECT batch, uid_count, blank, state FROM batch") == [
        (1, 10, 0, "open"),
        (2, 5, 2, "open"),
    ]
    skipped = rows(ledger.path, "SELECT batch, file, record, count, reason FROM skipped")
    assert skipped == [(2, "export.csv", 3, 2, "blank")]
    attempts = rows(
        ledger.path, "SELECT batch, attempt, sitting, outcome, sent_utc_ns FROM attempt"
    )
    assert attempts == [(2, 1, 1, None, None)]


async def test_an_outcome_and_what_becomes_of_its_batch_are_one_step(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    clock.advance(2)
    await ledger.sends.conclude(state, 1, 1, verdict(clock), ACCEPTED)
    [attempt] = rows(
        ledger.path,
        "SELECT sent_boot_id, sent_boot_ns, sent_utc_ns, outcome, http_status, request_id "
        "FROM attempt",
    )
    assert attempt == (clock.boot_id, clock.boot_ns, clock.utc_ns, "accepted", 200, "req-1")
    assert rows(ledger.path, "SELECT state, may_have_been_applied FROM batch") == [("accepted", 0)]


async def test_what_may_have_been_applied_sticks_to_the_batch_and_its_parts(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    await ledger.sends.conclude(state, 1, 1, verdict(clock, "unconfirmed", applied=True), None)
    await ledger.sends.intend(state, (), 1, 2)
    await ledger.sends.conclude(state, 1, 2, verdict(clock, "too_large"), halves(2, 0, 10))
    assert rows(
        ledger.path,
        "SELECT batch, parent, first_uid, uid_count, state, may_have_been_applied FROM batch",
    ) == [(1, None, 0, 10, "split", 1), (2, 1, 0, 5, "open", 1), (3, 1, 5, 5, "open", 1)]


async def test_a_batch_left_unconfirmed_stays_open(ledger: Ledger, clock: HandClock) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    left = Settlement(BatchState.UNCONFIRMED, "500")
    await ledger.sends.conclude(state, 1, 1, verdict(clock, "unconfirmed", applied=True), left)
    assert rows(ledger.path, "SELECT state, may_have_been_applied, reason FROM batch") == [
        ("open", 1, "500")
    ]
    assert [batch.number for batch in await ledger.runs.open_batches(state.run.number)] == [1]


async def test_a_rejected_uid_is_kept_with_its_place(ledger: Ledger) -> None:
    state = await begin(ledger)
    uid = RejectedUid("export.csv", 41, "u'1\x00é", "fits into no payload", None)
    settlement = Settlement(BatchState.REJECTED, "fits into no payload", uid)
    await ledger.sends.change(state, [registration(1, 0, 1)], 1, settlement)
    assert rows(ledger.path, "SELECT batch, file, record, uid, reason FROM rejected") == [
        (1, "export.csv", 41, "u'1\x00é", "fits into no payload")
    ]
    assert rows(ledger.path, "SELECT state FROM batch") == [("rejected",)]


async def test_the_last_batch_completes_the_source(ledger: Ledger) -> None:
    state = await begin(ledger)
    complete = "SELECT source_complete FROM run"
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    assert rows(ledger.path, complete) == [(0,)]
    await ledger.sends.intend(state, [registration(2, 10, 10, is_last=True)], 2, 1)
    assert rows(ledger.path, complete) == [(1,)]


async def test_calls_made_at_once_are_entered_in_their_order(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    calls = []
    for number in range(1, 51):
        calls += [
            ledger.sends.intend(state, [registration(number, 10 * number, 10)], number, 1),
            ledger.sends.conclude(state, number, 1, verdict(clock), ACCEPTED),
        ]
    await asyncio.gather(*calls)
    assert rows(
        ledger.path, "SELECT batch FROM attempt WHERE outcome = 'accepted' ORDER BY id"
    ) == [(number,) for number in range(1, 51)]


# What an earlier execution left.


async def sent_ago(ledger: Ledger, count: int) -> list[float]:
    return [sent for sent, _ in await ledger.sends.recent_sends(count)]


async def test_the_ends_of_the_latest_requests_are_known_and_never_too_early(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    entries = [registration(number, number, 1) for number in range(1, 5)]
    await ledger.sends.intend(state, entries, 1, 1)
    slow = verdict(clock)
    clock.advance(3)
    await send(ledger, state, 2, clock)
    clock.advance(1)
    slow = replace(slow, ended_utc_ns=clock.utc_ns)
    await ledger.sends.conclude(state, 1, 1, slow, ACCEPTED)
    clock.advance(10)
    assert sorted(await ledger.sends.recent_sends(10)) == [(11, 11), (14, 10)]
    assert sorted(await ledger.sends.recent_sends(1)) == [(11, 11), (14, 10)]
    # If the wall clock is set while a request is under way, its end may be any time until now.
    for number, step in ((3, -3600), (4, 3600)):
        await ledger.sends.intend(state, [], number, 1)
        sent = verdict(clock)
        clock.utc_ns += step * SECOND
        sent = replace(sent, ended_utc_ns=clock.utc_ns)
        await ledger.sends.conclude(state, number, 1, sent, ACCEPTED)
    clock.advance(5)
    assert await ledger.sends.recent_sends(2) == [(5, 0), (5, 0)]


async def test_an_attempt_without_an_outcome_counts_as_sent_now_and_maybe_applied(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10), registration(2, 10, 10)], 1, 1)
    await send(ledger, state, 2, clock)
    clock.reboot(500)
    await ledger.recover()
    dead, answered = rows(
        ledger.path, "SELECT outcome, sent_boot_id, sent_boot_ns, sent_utc_ns FROM attempt"
    )
    assert dead == ("unconfirmed", clock.boot_id, clock.boot_ns, clock.utc_ns)
    assert answered[:2] == ("accepted", "boot-1")
    assert rows(ledger.path, "SELECT may_have_been_applied FROM batch") == [(1,), (0,)]
    assert await sent_ago(ledger, 10) == [0, 500]
    [(ended,)] = rows(ledger.path, "SELECT ended_utc_ns FROM sitting")
    assert ended == clock.utc_ns - 500 * SECOND  # its last sign of life


async def test_recovering_twice_changes_nothing(ledger: Ledger, clock: HandClock) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    await ledger.recover()
    clock.advance(30)
    await ledger.recover()
    assert await sent_ago(ledger, 10) == [30]


async def test_sends_are_remembered_across_boots_and_clock_steps(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await send(ledger, state, 1, clock, [registration(n, n, 1) for n in range(1, 5)])
    clock.reboot(20)
    await send(ledger, state, 2, clock)
    clock.advance(5)
    clock.utc_ns -= 3600 * SECOND  # stepped back by an hour
    await send(ledger, state, 3, clock)
    clock.advance(2)
    # Within this boot, boot time decides; across boots what seems to lie ahead counts as now.
    assert await sent_ago(ledger, 10) == [0, 2, 7]
    assert await sent_ago(ledger, 2) == [0, 2]


async def test_attempts_that_never_left_are_no_sends(ledger: Ledger, clock: HandClock) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 1)], 1, 1)
    await ledger.sends.conclude(state, 1, 1, verdict(clock, "not_sent", sent=False), None)
    assert await sent_ago(ledger, 10) == []


async def test_a_hold_outlives_the_process_until_it_is_over_or_an_answer_ends_it(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    assert await ledger.sends.seconds_held() == 0
    await ledger.sends.intend(state, [registration(n, n, 1) for n in (1, 2, 3)], 1, 1)
    throttled = replace(verdict(clock, "throttled"), retry_after=20.0)
    await ledger.sends.conclude(state, 1, 1, throttled, None)
    clock.advance(5)
    assert await ledger.sends.seconds_held() == 15
    clock.reboot(5)
    assert await ledger.sends.seconds_held() == 10
    # What was under way beside it is answered later, and ends no hold.
    beside = replace(verdict(clock), sent=throttled.sent)
    await ledger.sends.intend(state, [], 3, 1)
    await ledger.sends.conclude(state, 3, 1, beside, None)
    assert await ledger.sends.seconds_held() == 10
    clock.advance(1)
    await send(ledger, state, 2, clock)
    assert await ledger.sends.seconds_held() == 0
    await ledger.sends.intend(state, [], 1, 2)
    await ledger.sends.conclude(
        state, 1, 2, replace(verdict(clock, "throttled"), retry_after=3.0), None
    )
    clock.advance(4)
    assert await ledger.sends.seconds_held() == 0


async def test_probes_are_sends_and_one_that_died_was_sent_at_the_latest(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await send(ledger, state, 1, clock, [registration(1, 0, 1)])
    async with ledger.sends.probing():
        clock.advance(3)
    clock.advance(4)
    assert await sent_ago(ledger, 10) == [4, 7]
    dying = ledger.sends.probing()
    await dying.__aenter__()
    assert await sent_ago(ledger, 10) == [4, 7]
    clock.advance(1)
    await ledger.recover()
    assert await sent_ago(ledger, 10) == [0, 5, 8]


async def test_sends_of_all_the_workspaces_runs_count(ledger: Ledger, clock: HandClock) -> None:
    for number in range(3):
        key = replace(KEY, cohort=Cohort(f"cohort-{number}", "Buyers"))
        state = await begin(ledger, key)
        await send(ledger, state, 1, clock, [registration(1, 0, 1, is_last=True)])
        clock.advance(1)
    assert await sent_ago(ledger, 10) == [1, 2, 3]


async def test_the_latest_sends_are_those_sent_last_not_those_intended_last(
    ledger: Ledger, clock: HandClock
) -> None:
    """Two runs at once: the first intends 100 requests, and sends them after the second's."""
    keys = [replace(KEY, cohort=Cohort(f"cohort-{number}", "Buyers")) for number in (1, 2)]
    first, second = [await begin(ledger, key) for key in keys]
    entries = [registration(number, number, 1) for number in range(1, 101)]
    for number in range(1, 101):
        await ledger.sends.intend(first, entries if number == 1 else (), number, 1)
    async with ledger.sends.probing():
        pass
    for number in range(1, 101):
        await send(ledger, second, number, clock, entries if number == 1 else ())
    clock.advance(50)
    for number in range(1, 101):
        await ledger.sends.conclude(first, number, 1, verdict(clock), ACCEPTED)
        clock.advance(1)
    assert await sent_ago(ledger, 50) == list(range(1, 51))


async def test_the_last_429_is_found_behind_many_requests_of_other_runs(
    ledger: Ledger, clock: HandClock
) -> None:
    keys = [replace(KEY, cohort=Cohort(f"cohort-{number}", "Buyers")) for number in (1, 2)]
    first, second = [await begin(ledger, key) for key in keys]
    await ledger.sends.intend(first, [registration(1, 0, 1)], 1, 1)
    entries = [registration(number, number, 1) for number in range(1, 400)]
    for number in range(1, 400):
        await send(ledger, second, number, clock, entries if number == 1 else ())
    clock.advance(1)
    throttled = replace(verdict(clock, "throttled"), retry_after=20.0)
    await ledger.sends.conclude(first, 1, 1, throttled, None)
    assert await ledger.sends.seconds_held() == 20


async def resumed(ledger: Ledger, state: RunState) -> RunState:
    await finish(ledger, state)
    return await begin(ledger)


async def test_a_resumed_run_knows_its_batches_and_which_are_open(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    entries = [registration(n, 10 * (n - 1), 10, is_last=n == 5) for n in range(1, 6)]
    await send(ledger, state, 1, clock, entries)
    await ledger.sends.change(state, (), 2, halves(6, 10, 10))
    await ledger.sends.change(state, (), 3, halves(8, 20, 10))
    for number in (6, 7, 8):
        await send(ledger, state, number, clock)
    await ledger.sends.intend(state, (), 4, 1)
    await ledger.sends.conclude(state, 4, 1, verdict(clock, "unconfirmed", applied=True), None)

    state = await resumed(ledger, state)
    assert (state.next_batch, state.largest_accepted > 0) == (10, True)
    known = await ledger.runs.known_batches(state.run.number)
    assert [(k.number, k.uid_count, k.records_through, k.is_last) for k in known] == [
        (n, 10, 10 * n, n == 5) for n in range(1, 6)
    ]
    assert [k.digest for k in known] == [entry.digest for entry in entries]
    # The second was split and delivered in parts; of the third one part is left.
    assert [k.is_open for k in known] == [False, False, True, True, True]
    left = await ledger.runs.open_batches(state.run.number)
    assert [(b.number, b.first_uid, b.uid_count, b.attempts) for b in left] == [
        (9, 25, 5, 0),
        (4, 30, 10, 1),
        (5, 40, 10, 0),
    ]


async def test_a_resumed_run_knows_what_the_search_for_bad_uids_has_cost(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await begin(ledger)
    await ledger.sends.intend(state, [registration(1, 0, 10)], 1, 1)
    division = halves(2, 0, 10, isolated=True)
    await ledger.sends.conclude(state, 1, 1, verdict(clock, "rejected"), division)
    for number in (2, 3):
        await ledger.sends.intend(state, (), number, 1)
        await ledger.sends.conclude(state, number, 1, verdict(clock, "rejected"), None)
    state = await resumed(ledger, state)
    assert (state.isolation_requests, state.largest_accepted) == (2, 0)
    assert all(batch.isolated for batch in await ledger.runs.open_batches(state.run.number))


async def test_runs_do_not_see_each_others_batches(ledger: Ledger, clock: HandClock) -> None:
    first = await begin(ledger)
    await ledger.sends.intend(first, [registration(1, 0, 10)], 1, 1)
    await finish(ledger, first)
    second = await begin(ledger, replace(KEY, cohort=Cohort("cohort-2", "Buyers")))
    assert await ledger.runs.open_batches(second.run.number) == []
    assert await ledger.runs.known_batches(second.run.number) == []
    await send(ledger, second, 1, clock, [registration(1, 0, 3)])
    assert [batch.uid_count for batch in await ledger.runs.open_batches(first.run.number)] == [10]


# Opening, which may check, copy and migrate a large file.


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_ledger_is_opened_in_a_thread(tmp_path: Path, *, is_cancelled: bool) -> None:
    """A cancellation waits for the thread, and closes what it has opened."""
    begun, release = threading.Event(), threading.Event()
    connections: list[sqlite3.Connection] = []

    def open_slowly(path: Path, *, now_utc_ns: int) -> sqlite3.Connection:
        begun.set()
        release.wait(PATIENCE_SECONDS)
        connections.append(open_ledger(path, now_utc_ns=now_utc_ns))
        return connections[0]

    async def use() -> None:
        ledger = await open_shared(tmp_path, SystemClock(), is_sole=True)
        assert ledger is not None
        await ledger.close()

    with patch("engine.ledger.sqlite.ledger.open_ledger", open_slowly):
        using = asyncio.create_task(use())
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        if is_cancelled:
            using.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not using.done()
        release.set()
        await asyncio.wait([using])
    assert using.cancelled() is is_cancelled
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


async def test_a_run_that_begins_while_another_process_looks_has_not_lost_the_ledger(
    tmp_path: Path, clock: HandClock
) -> None:
    with read_ledger(tmp_path, clock) as found:
        ledger = await Ledger.open(tmp_path / "ledger.sqlite", clock)
        await begin(ledger)
        (tmp_path / "plans" / "run").mkdir(parents=True)
        found.refuse_lost()
        await ledger.close()
    (tmp_path / "ledger.sqlite").unlink()
    with read_ledger(tmp_path, clock) as lost, pytest.raises(LedgerError, match="it was lost"):
        lost.refuse_lost()
