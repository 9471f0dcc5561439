"""Reads of a ledger beside the process that writes to it: neither waits for the other."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from known_snapshot import describe, staged_in
from large_ledger import make_large_ledger, watching
from ledger_entries import (
    COMMAND,
    KEY,
    SETTINGS,
    HandClock,
    finish,
    registration,
    rows,
    send,
)

from engine.ledger.records import RunState
from engine.ledger.run_records import RunTotals
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import LedgerReader
from engine.planning.comparison import compare
from engine.report.history import RunReport
from engine.snapshot.sorted_file import SNAPSHOT
from engine.source.block import Block
from engine.storage.computation import ComputeOptions
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import write_batches

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must not wait for anything."""
RUN = "20260101-000001-abcd"
SECONDS_APART = 0.005
"""Between two intents, so that they do not keep the processor to themselves."""


class Sender:
    """Enters intents as a run does, and says how long each took."""

    def __init__(self, ledger: Ledger, state: RunState) -> None:
        self._ledger = ledger
        self._state = state
        self._entered = 0

    async def intend(self) -> float:
        number = self._entered + 1
        batch = registration(number, 10 * self._entered, 10)
        began = time.perf_counter()
        await self._ledger.sends.intend(self._state, [batch], number, 1)
        self._entered = number
        return time.perf_counter() - began

    async def intend_often(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            seconds.append(await self.intend())
            await asyncio.sleep(SECONDS_APART)
        return seconds

    async def intend_until_done(self, work: Awaitable[object], least: int) -> list[float]:
        """Enter intents until `work` is done, and at least so many."""
        task = asyncio.ensure_future(work)
        seconds = await self.intend_often(least)
        while not task.done():
            seconds += await self.intend_often(1)
        await task
        return seconds


@asynccontextmanager
async def sender_of(path: Path) -> AsyncIterator[tuple[Sender, Ledger]]:
    ledger = await Ledger.open(path, HandClock())
    try:
        yield Sender(ledger, await ledger.runs.begin(KEY, COMMAND, SETTINGS)), ledger
    finally:
        await ledger.close()


class Hold:
    """Holds the thread that calls it until it is released; says which thread that was."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._released = threading.Event()

    def __call__(self, _: object = None) -> str:
        self.begun.set()
        self._released.wait(PATIENCE_SECONDS)
        return threading.current_thread().name

    def release(self) -> None:
        self._released.set()


async def test_no_read_waits_for_the_writer(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    hold = Hold()
    writing = asyncio.ensure_future(ledger.write(hold))
    await asyncio.to_thread(hold.begun.wait, PATIENCE_SECONDS)
    try:
        with LedgerReader.open(ledger.path) as reader:
            report = RunReport(reader.history, ledger.path.parent, state.run.name)
            read = reader.read(lambda _: report.accounts(is_recounted=True))
            accounts = await asyncio.wait_for(read, PATIENCE_SECONDS)
        assert accounts.run == state.run.name
        assert not writing.done()
    finally:
        hold.release()
    await writing


async def test_what_only_reads_waits_for_no_write_of_any_process(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    run = state.run
    hold = Hold()
    writing = asyncio.ensure_future(ledger.write(hold))
    await asyncio.to_thread(hold.begun.wait, PATIENCE_SECONDS)
    key = KEY.cohort_key
    try:
        for question in (
            ledger.plans.rejections(key),
            ledger.plans.last_mirror(key),
            ledger.plans.resent_through(key),
            ledger.runs.unrecorded_pushes(key),
            ledger.runs.last_name(key),
            ledger.snapshots.generations(key),
            ledger.snapshots.last_sends(key),
            ledger.snapshots.range_outcomes(1, 0),
            ledger.snapshots.runs_with_uids(key),
            ledger.runs.progress(run, 1),
            ledger.runs.known_batches(run.number),
            ledger.runs.open_batches(run.number),
            ledger.runs.uids_settled(run.number),
            ledger.runs.without_totals(),
            ledger.runs.count_totals(run.number),
            ledger.run_record(run.name),
            ledger.interrupted_cohorts(),
            ledger.refuse_lost(),
            ledger.check(),
            ledger.damage_behind(ValueError("a symptom")),
        ):
            await asyncio.wait_for(question, PATIENCE_SECONDS)
        assert not writing.done()
    finally:
        hold.release()
    await writing


async def test_no_intent_waits_for_a_read(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    sender = Sender(ledger, state)
    await sender.intend_often(10)
    hold = Hold()

    def read(reader: LedgerReader) -> str:
        attempts = reader.history.attempts(state.run.name)
        assert next(attempts).batch == 1  # Now SQLite has a read under way, with more to come.
        return hold()

    with LedgerReader.open(ledger.path) as reader:
        reading = asyncio.ensure_future(reader.read(lambda _: read(reader)))
        await asyncio.to_thread(hold.begun.wait, PATIENCE_SECONDS)
        try:
            await asyncio.wait_for(sender.intend_often(20), PATIENCE_SECONDS)
            assert not reading.done()
        finally:
            hold.release()
        assert await reading != await ledger.write(lambda _: threading.current_thread().name)


async def test_reads_that_wait_for_another_one_occupy_no_thread_of_the_loop(
    ledger: Ledger,
) -> None:
    """The loop has few threads, and resolves host names in them."""
    hold = Hold()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    reads = [asyncio.ensure_future(ledger._reads(hold)) for _ in range(5)]
    try:
        assert await asyncio.to_thread(hold.begun.wait, PATIENCE_SECONDS)
        async with asyncio.timeout(10):
            await asyncio.to_thread(threading.current_thread)
    finally:
        hold.release()
    assert len(set(await asyncio.gather(*reads))) == 1


async def test_a_read_of_a_closed_ledger_is_an_error(ledger: Ledger) -> None:
    assert await ledger._reads(lambda _: "read") == "read"
    await ledger.close()
    with pytest.raises(RuntimeError, match="the ledger has been closed"):
        await ledger._reads(lambda _: "read")


async def test_a_read_that_nobody_waits_for_ends_with_its_reader(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    begun = threading.Event()

    def read_for_ever(reader: LedgerReader) -> None:
        while True:
            reader.history.record(state.run.name, is_recounted=True)
            begun.set()

    with LedgerReader.open(ledger.path) as reader:
        reading = asyncio.ensure_future(reader.read(lambda _: read_for_ever(reader)))
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await reading


async def test_a_read_that_nobody_waits_for_ends_with_its_ledger(ledger: Ledger) -> None:
    begun = threading.Event()

    def count_for_ever(connection: sqlite3.Connection) -> None:
        begun.set()
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )

    reading = asyncio.ensure_future(ledger._reads(count_for_ever))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    reading.cancel()
    await asyncio.wait_for(ledger.close(), PATIENCE_SECONDS)
    with pytest.raises(asyncio.CancelledError):
        await reading


def counted_in_a_transaction(statements: list[str]) -> bool:
    """Return whether attempts were counted while the write lock was held."""
    is_held = False
    for statement in statements:
        if statement in {"BEGIN IMMEDIATE", "COMMIT"}:
            is_held = statement == "BEGIN IMMEDIATE"
        if is_held and "count(*) AS sent" in statement:
            return True
    return False


async def test_no_totals_are_counted_while_the_write_lock_is_held(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "ledger.sqlite"
    with watching() as work:
        ledger = await Ledger.open(path, clock)
        for number in range(4):
            state = await ledger.runs.begin(KEY, COMMAND, SETTINGS, restart=True)
            await send(ledger, state, 1, clock, [registration(1, 0, 10)])
            if number == 2:
                await finish(ledger, state, "finished")
        await ledger.recover()
        await ledger.settle_all()
        await ledger.store_missing_totals()
        await ledger.close()
    assert any("count(*) AS sent" in statement for statement in work.statements)
    assert not counted_in_a_transaction(work.statements)
    assert rows(path, "SELECT count(*) FROM run_totals") == rows(path, "SELECT count(*) FROM run")


async def test_totals_that_may_have_changed_since_the_count_are_not_stored(
    ledger: Ledger, clock: HandClock
) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    number = state.run.number
    await send(ledger, state, 1, clock, [registration(1, 0, 10), registration(2, 10, 10)])
    await ledger.sends.intend(state, [], 2, 1)
    unsettled = await ledger.runs.count_totals(number)
    await ledger.settle_all()
    settled = await ledger.runs.count_totals(number)

    async def stored_after(totals: RunTotals, execution: int) -> int:
        await ledger.runs.store_totals(number, execution, totals)
        return len(rows(ledger.path, "SELECT 1 FROM run_totals"))

    assert await stored_after(settled, 1) == 0  # The run goes on.
    await finish(ledger, state)
    assert await stored_after(unsettled, 1) == 0
    later = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    await finish(ledger, later)
    assert await stored_after(settled, 1) == 0  # Another process has worked on it.
    assert await stored_after(settled, 2) == 1


async def test_all_of_a_record_is_as_of_one_moment(ledger: Ledger) -> None:
    state = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
    with LedgerReader.open(ledger.path) as reader:
        for number in range(1, 30):
            writing = asyncio.ensure_future(
                ledger.sends.intend(state, [registration(number, 10 * (number - 1), 10)], number, 1)
            )
            report = RunReport(reader.history, ledger.path.parent, state.run.name)
            accounts = await reader.read(lambda _, report=report: report.accounts())  # type: ignore[misc] # a default
            assert accounts.imbalance is None
            await writing


def compare_uids(folder: Path, count: int) -> int:
    """Compare so many uids with as many, of which 1 in 100 differs; return how many are added."""
    folder.mkdir()
    known = folder / "known.parquet"
    write_batches(known, SNAPSHOT, _members(0, count))
    uids = (rows["uid"].cast(pa.string()) for rows in _members(count // 100, count))
    blocks = (Block("e.txt", 1, len(each), each, ()) for each in uids)
    # One thread of two, as it leaves the other processor to the intents.
    settings = PlanningSettings(memory_megabytes=512, threads=1)
    with staged_in(folder, blocks) as export:
        return compare(export, describe(known), folder, ComputeOptions(settings)).adds.planned


def _members(first: int, count: int) -> list[pa.RecordBatch]:
    size = 1_000_000
    batches = []
    for start in range(first, first + count, size):
        numbers = pa.array(np.arange(start, min(start + size, first + count)))
        uids = pc.binary_join_element_wise("u", pc.utf8_lpad(numbers.cast("string"), 12, "0"), "")
        states = pa.array(np.ones(len(numbers), np.uint8))
        runs = pa.array(np.ones(len(numbers), np.int32))
        batches.append(pa.record_batch([uids.cast("binary"), states, runs], schema=SNAPSHOT))
    return batches


def percentiles(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


@pytest.mark.slow
async def test_intents_beside_a_large_report_and_a_large_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        await intend_beside_reads(tmp_path, attempts=500_000, uids=10_000_000, intents=2_000)


async def test_intents_beside_a_report_and_a_plan(tmp_path: Path) -> None:
    await intend_beside_reads(tmp_path, attempts=2_000, uids=20_000, intents=20)


async def intend_beside_reads(folder: Path, *, attempts: int, uids: int, intents: int) -> None:
    """Enter intents alone, beside a report of so many attempts, and beside a plan of so many uids.

    Prints what the slowest of 100 takes in each case.
    """
    path = make_large_ledger(folder / "state", runs=2, each=attempts)

    def show() -> int:
        with LedgerReader.open(path, is_verified=True) as reader:
            report = RunReport(reader.history, path.parent, RUN)
            assert report.accounts(is_recounted=True).requests.sent == attempts
            return sum(1 for _ in report.attempts())

    async with sender_of(path) as (sender, _):
        works = {
            "with nothing beside it": sender.intend_often(intents),
            "beside a show of the run": sender.intend_until_done(asyncio.to_thread(show), intents),
            "beside a comparison": sender.intend_until_done(
                asyncio.to_thread(compare_uids, folder / "plan", uids), intents
            ),
            "with nothing beside it, again": sender.intend_often(intents),
        }
        entered = 0
        for name, work in works.items():
            seconds = await work
            entered += len(seconds)
            print(f"\n{name}: {len(seconds)} intents, {percentiles(seconds)}", end="")  # noqa: T201 - the test's figures
        with LedgerReader.open(path, is_verified=True) as reader:
            totals = reader.history.record(reader.history.names()[-1]).totals
    assert totals.roots == entered
