"""What it costs to look at a ledger of many attempts: no more than at one of few."""

import asyncio
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from large_ledger import PARTNER, Work, make_large_ledger, scanned, watching
from ledger_entries import HandClock, rows, tampering

from engine.errors import LedgerError
from engine.ledger.sqlite import plans, runs, snapshot_index
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import reading
from engine.ledger.sqlite.schema import open_for_reading, open_ledger
from engine.model.cohort import CohortKey
from engine.report.history import all_runs, find_unfinished, open_run
from engine.report.status_reading import WatchedCohort, WatchedWorkspace, WorkspaceStatus

KEY = CohortKey(PARTNER, "C1")
RUN = "20260101-000006-abcd"
"""A run of that cohort."""
Look = Callable[[Path], object]


def in_ledger(query: Callable[..., object], *values: object) -> Look:
    """Ask what plans and snapshots ask of the ledger in `state`."""

    def look(state: Path) -> object:
        with closing(open_for_reading(ledger_of(state))) as connection:
            return query(connection, *values)

    return look


def show(state: Path) -> object:
    with open_run(state, RUN) as report:
        return (
            report.accounts(is_recounted=True),
            list(report.attempts()),
            list(report.rejects()),
        )


def find(state: Path) -> object:
    with open_run(state, RUN) as report:
        return report


def resume(state: Path) -> object:
    return find_unfinished(state, RUN)


def status(state: Path) -> object:
    cohorts = [WatchedCohort(name, name, name, "add", 1) for name in ("C0", "C1")]
    folder = ledger_of(state).parent
    watched = WatchedWorkspace("default", "target", "W", PARTNER, folder, cohorts)
    found = WorkspaceStatus(watched, 1, includes_others=True)
    assert len(found.cohorts) > 2
    return found


ABOUT_ALL: dict[str, Look] = {
    "runs": all_runs,
    "status": status,
    "find a run": find,
    "what is unfinished": lambda state: find_unfinished(state, None),
    "what may not have settled": in_ledger(snapshot_index.last_sends, KEY),
    "what a snapshot does not know": in_ledger(snapshot_index.unfolded, KEY),
    "what was sent since": in_ledger(snapshot_index.sent_since, KEY, 10),
    "what is kept": in_ledger(snapshot_index.runs_with_uids, KEY),
    "whether it is mirrored": in_ledger(runs.is_mirrored, KEY),
    "what was pushed behind": in_ledger(runs.unrecorded_pushes, KEY),
    "the last attempt": in_ledger(snapshot_index.last_attempt),
    "the last mirror": in_ledger(plans.last_mirror, KEY),
    "what overtook a plan": in_ledger(plans.overtaken_by, 1, KEY),
    "what was resent": in_ledger(plans.resent_through, KEY),
}
"""What is asked of all runs, or of all runs of a cohort."""
OF_ONE_RUN: dict[str, Look] = {"show": show}


def ledger_of(state: Path) -> Path:
    [path] = state.glob("*/*/ledger.sqlite")
    return path


async def in_order(state: Path, clock: HandClock) -> None:
    """Open a ledger for writing, as each run begins."""
    ledger = await Ledger.open(ledger_of(state), clock)
    await ledger.recover()
    await ledger.store_missing_totals()
    await ledger.close()


@pytest.fixture
def treated_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check small ledgers as large ones."""
    monkeypatch.setattr("engine.ledger.sqlite.schema._CHECKED_AT_ONCE_BYTES", 0)


async def state_of(folder: Path, clock: HandClock, each: int) -> Path:
    make_large_ledger(folder, runs=20, each=each)
    await in_order(folder, clock)
    return folder


@pytest.mark.usefixtures("treated_as_large")
@pytest.mark.parametrize("look", ABOUT_ALL)
async def test_no_look_at_all_runs_reads_all_batches_or_attempts(
    tmp_path: Path, clock: HandClock, look: str
) -> None:
    costs: list[Work] = []
    for each in (10, 100):
        state = await state_of(tmp_path / str(each), clock, each)
        with watching() as work:
            ABOUT_ALL[look](state)
        costs.append(work)
    path = ledger_of(state)
    assert [scanned(path, statement) for statement in work.statements] == [[]] * len(
        work.statements
    )
    few, many = costs
    assert many.steps < 1.2 * few.steps + 50


@pytest.mark.usefixtures("treated_as_large")
@pytest.mark.parametrize("look", OF_ONE_RUN)
async def test_a_look_at_one_run_reads_what_belongs_to_that_run(
    tmp_path: Path, clock: HandClock, look: str
) -> None:
    costs = []
    for count in (10, 100):
        state = tmp_path / str(count)
        path = make_large_ledger(state, runs=count, each=20)
        await in_order(state, clock)
        with watching() as work:
            OF_ONE_RUN[look](state)
        assert not any(scanned(path, statement) for statement in work.statements)
        costs.append(work.steps)
    # The tables of runs are checked; each of these has a few rows more.
    assert costs[1] < costs[0] + 90 * 60


@pytest.mark.usefixtures("treated_as_large")
async def test_a_run_that_begins_visits_only_what_is_unfinished(
    tmp_path: Path, clock: HandClock
) -> None:
    costs: list[Work] = []
    for each in (10, 100):
        state = await state_of(tmp_path / str(each), clock, each)
        with watching() as work:
            await in_order(state, clock)
        costs.append(work)
    path = ledger_of(state)
    assert not any(scanned(path, statement) for statement in work.statements)
    assert costs[1].steps < 1.2 * costs[0].steps
    # One that died is put in order, whatever stands around it.
    with tampering(path) as ledger:
        ledger.execute("UPDATE run SET status = 'running' WHERE run = 7")
        ledger.execute("UPDATE attempt SET outcome = NULL, sent_utc_ns = NULL WHERE id = 635")
    with watching() as work:
        await in_order(state, clock)
    assert not any(scanned(path, statement) for statement in work.statements)
    output = {accounts.run: accounts for accounts in all_runs(state)}
    assert output["20260101-000007-abcd"].status == "incomplete"


@pytest.mark.usefixtures("treated_as_large")
async def test_totals_are_stored_for_each_closed_run_and_forgotten_when_it_goes_on(
    tmp_path: Path, clock: HandClock
) -> None:
    state = await state_of(tmp_path / "state", clock, 10)
    path = ledger_of(state)
    assert rows(path, "SELECT count(*) FROM run_totals") == [(20,)]
    listed = all_runs(state)
    with tampering(path) as ledger:
        ledger.execute("DELETE FROM run_totals")
    assert all_runs(state) == listed  # Counted.


@pytest.mark.parametrize(
    "harm",
    [
        "totals = replace(totals, '\"sent\":10', '\"sent\":11')",
        "checksum = checksum + 1",
        f"totals = '{{}}', checksum = {zlib.crc32(b'{}')}",
    ],
)
async def test_totals_that_were_harmed_are_counted_anew(
    tmp_path: Path, clock: HandClock, harm: str
) -> None:
    state = await state_of(tmp_path / "state", clock, 10)
    path = ledger_of(state)
    listed = all_runs(state)
    with tampering(path) as ledger:
        ledger.execute(f"UPDATE run_totals SET {harm}")
    assert all_runs(state) == listed


async def test_show_refuses_totals_that_are_not_those_of_the_attempts(
    tmp_path: Path, clock: HandClock
) -> None:
    state = await state_of(tmp_path / "state", clock, 10)
    path = ledger_of(state)
    show(state)
    with tampering(path) as ledger:
        ledger.execute("UPDATE attempt SET outcome = 'throttled' WHERE run = 6 AND batch = 3")
    with pytest.raises(LedgerError, match=f"run {RUN} are not those") as caught:
        show(state)
    assert caught.value.hint


# How often the whole file is checked.

CHECK = "PRAGMA integrity_check(1)"


async def checks(path: Path, clock: HandClock) -> int:
    """Return how often a writer has checked the whole file."""
    with watching() as work:
        ledger = await Ledger.open(path, clock)
        await ledger.close()
    return work.statements.count(CHECK)


async def test_a_writer_checks_the_whole_of_a_large_file_once_a_day(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_large_ledger(tmp_path, runs=2, each=3)
    assert [await checks(path, clock) for _ in range(2)] == [1, 1]
    monkeypatch.setattr("engine.ledger.sqlite.schema._CHECKED_AT_ONCE_BYTES", 0)
    assert [await checks(path, clock) for _ in range(3)] == [1, 0, 0]
    clock.advance(23 * 3600)
    assert await checks(path, clock) == 0
    clock.advance(3600)
    assert [await checks(path, clock) for _ in range(2)] == [1, 0]
    clock.advance(-7200)  # A clock that was set back.
    assert [await checks(path, clock) for _ in range(2)] == [1, 0]


@pytest.mark.usefixtures("treated_as_large")
def test_a_reader_checks_what_a_list_of_runs_rests_on(tmp_path: Path) -> None:
    path = make_large_ledger(tmp_path, runs=2, each=3)
    with watching() as work:
        open_for_reading(path).close()
    checked = {s for s in work.statements if s.startswith("PRAGMA integrity_check")}
    assert CHECK not in checked
    assert "PRAGMA integrity_check(run)" in checked
    assert not any(f"({table})" in s for table in ("attempt", "batch") for s in checked)
    with watching() as work:
        open_for_reading(path, is_whole=True).close()
        open_for_reading(path, is_verified=True).close()
    assert work.statements.count(CHECK) == 1


def damage(path: Path, table: str) -> None:
    """Overwrite a table's first page."""
    [(root,)] = rows(path, "SELECT rootpage FROM sqlite_schema WHERE name = ?", table)
    [(size,)] = rows(path, "PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xa5" * size)


@pytest.mark.usefixtures("treated_as_large")
def test_damage_to_attempts_is_found_by_whoever_reads_them(tmp_path: Path) -> None:
    path = make_large_ledger(tmp_path, runs=3, each=300)
    damage(path, "attempt")
    run = "20260101-000001-abcd"
    with pytest.raises(LedgerError, match="corrupt"), open_run(tmp_path, run) as report:
        list(report.attempts())
    with pytest.raises(LedgerError, match="corrupt"):
        open_ledger(path)
    with pytest.raises(LedgerError, match="corrupt"):
        open_for_reading(path, is_whole=True)


@pytest.mark.usefixtures("treated_as_large")
def test_what_makes_no_sense_is_blamed_on_the_file_only_if_it_is_damaged(tmp_path: Path) -> None:
    path = make_large_ledger(tmp_path, runs=3, each=300)
    with pytest.raises(ValueError, match="ours"), reading(path):
        raise ValueError("ours")
    damage(path, "attempt")
    with pytest.raises(LedgerError, match="corrupt"), reading(path):
        raise ValueError("what was read")


def test_a_reader_finds_values_that_a_column_may_not_hold(tmp_path: Path) -> None:
    path = make_large_ledger(tmp_path, runs=1, each=1)
    with tampering(path) as ledger:
        ledger.execute("PRAGMA ignore_check_constraints = ON")
        ledger.execute("UPDATE batch SET leg = 'odd'")
    with pytest.raises(LedgerError, match="corrupt"):
        open_for_reading(path)


@pytest.mark.parametrize("column", ["sizes", "exports", "reading"])
@pytest.mark.parametrize("text", ["{not JSON", "[1, 2"])
def test_json_that_is_none_is_damage(tmp_path: Path, column: str, text: str) -> None:
    path = make_large_ledger(tmp_path, runs=6, each=1)
    with tampering(path) as ledger:
        ledger.execute(f"UPDATE run SET status = 'incomplete', {column} = ?", (text,))
    looks: list[Look] = [show] if column == "sizes" else [ABOUT_ALL["what is unfinished"], resume]
    for look in looks:
        with pytest.raises(LedgerError, match="corrupt"):
            look(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("treated_as_large")
def test_five_million_attempts_are_looked_at_as_quickly_as_few(
    tmp_path: Path, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = []
    for each in (5, 5000):
        state = tmp_path / str(each)
        make_large_ledger(state, runs=1000, each=each)
        asyncio.run(in_order(state, clock))
        with watching() as work:
            all_runs(state)
        costs.append(work.steps)
        for command in (("runs",), ("show", RUN), ("resume", "--json")):
            spent = cpu_seconds(*command, "--state", str(state))
            with capsys.disabled():
                print(f"\n{each} attempts a run, {command[0]}: {spent:.2f} s of CPU")  # noqa: T201 - the test's figures
    assert costs[1] < 1.2 * costs[0]


def cpu_seconds(*command: str) -> float:
    """Run a command, and return what it took of the processor, Python's start among it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "engine", *command], check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
