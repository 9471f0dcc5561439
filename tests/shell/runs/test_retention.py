"""What `prune` deletes, what it never deletes, and that it holds up nobody."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from large_ledger import make_large_ledger
from ledger_entries import KEY, HandClock, begin, finish, registration, rows, send, verdict
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from resting_clock import RestingClock
from scripted_server import ACCEPT
from whole_push import PARTNER, Pushes

from engine.config.loading import Config
from engine.errors import ExitStatus, LedgerError
from engine.ledger.locks import all_at_once, cohort_at_once
from engine.ledger.records import RunKey
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.pruning import Pruner
from engine.ledger.sqlite.schema import open_ledger
from engine.ledger.sync_records import SyncRecord
from engine.model import cohort as model
from engine.model.cohort import CohortKey
from engine.report.history import all_runs, open_run
from engine.report.state import Pruned
from engine.runs import retention
from engine.runs.retention import bounds_of, prune
from engine.storage.paths import LEDGER_NAME, plan_folder
from engine.storage.usage import KINDS, state_usage

DAY = 86_400.0
YEAR = 365 * DAY
RUNS, EACH = 60, 700


def config_of(tmp_path: Path) -> Config:
    return Pushes(tmp_path / "unused", None).config()  # type: ignore[arg-type] # nothing is sent


def pruned(config: Config, clock: object, **how: object) -> Pruned:
    return asyncio.run(prune(config, clock=clock, **how))  # type: ignore[arg-type] # as tests have it


mirror_runs = some.builds(
    MirrorRun,
    wanted=some.frozensets(some.sampled_from(UIDS), min_size=1),
    replies=some.lists(some.sampled_from(["fine", "500", "500 applied", "reset applied"])).map(
        tuple
    ),
    pause=some.sampled_from([60.0, 2 * SETTLE, 50 * DAY, 100 * DAY]),
)


@given(some.lists(mirror_runs, min_size=1, max_size=6), mirror_runs)
@settings(max_examples=settings().max_examples // 5)
def test_a_cohort_that_is_pruned_after_each_run_ends_right(
    troubled: list[MirrorRun], last: MirrorRun
) -> None:
    with tempfile.TemporaryDirectory() as name:
        cohort = Cohort(Path(name))
        pushes = cohort.commands
        for mirror_run in troubled:
            cohort.carry_out(mirror_run)
            pruned(pushes.config(), RestingClock(pushes.machine))
            for accounts in all_runs(pushes.state):
                with open_run(pushes.state, str(accounts.run)) as report:
                    report.details()
                    list(report.rejects())
        cohort.carry_out(replace(last, replies=()))
        cohort.scripted_server.script = lambda _: ACCEPT
        ended = pushes.mirror(sorted(last.wanted))
        assert ended.exit_status is ExitStatus.ACCEPTED, ended
        assert cohort.members() == last.wanted


def test_what_is_kept_does_not_grow(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    pushes = cohort.commands
    counts = []
    for number in range(5):
        wanted = frozenset(UIDS[number % 3 : number % 3 + 8])
        cohort.carry_out(MirrorRun(wanted, pause=20 * DAY))
        pruned(pushes.config(), RestingClock(pushes.machine), keep_days=30)
        tables = ("run", "attempt", "batch", "plan", "generation", "followed", "sitting")
        counts.append(
            [rows(pushes.ledger, f"SELECT count(*) FROM {table}")[0][0] for table in tables]
            + [len(cohort.snapshots), len(list((pushes.ledger.parent / "plans").iterdir()))]
        )
    # 30 days are two of these runs.
    assert counts[2] == counts[3] == counts[4]


async def old_ledger(state: Path, clock: HandClock) -> Path:
    """Make a ledger of finished pushes, all of them old."""
    path = make_large_ledger(state, runs=RUNS, each=EACH)
    ledger = await Ledger.open(path, clock)
    await ledger.recover()
    await ledger.close()
    clock.utc_ns = (17_000_020 * 100 + round(YEAR)) * 1_000_000_000
    return path


async def test_old_runs_go_and_the_file_shrinks(tmp_path: Path, clock: HandClock) -> None:
    path = await old_ledger(tmp_path / "state", clock)
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    size, before = path.stat().st_size, rows(path, "SELECT count(*) FROM attempt")[0][0]
    dry = await prune(config, is_dry_run=True, clock=clock)
    assert (path.stat().st_size, rows(path, "SELECT count(*) FROM attempt")) == (size, [(before,)])
    done = await prune(config, clock=clock)
    assert (done.runs, done.attempts) == (dry.runs, dry.attempts)
    # The last push of each cohort, and what its snapshot does not include yet, stay.
    kept = rows(path, "SELECT run, cohort_id FROM run")
    assert done.runs == RUNS - len(kept) > 0
    assert {cohort for _, cohort in kept} == {f"C{number}" for number in range(5)}
    assert done.attempts == before - EACH * len(kept)
    for table in ("attempt", "batch", "sitting", "run_totals"):
        orphans = f"SELECT count(*) FROM {table} WHERE run NOT IN (SELECT run FROM run)"
        assert rows(path, orphans) == [(0,)]
    assert rows(path, "SELECT * FROM pruned") == []
    assert path.stat().st_size == size - done.ledger_bytes < 0.7 * size
    assert (await prune(config, clock=clock)).runs == 0


async def test_a_file_of_an_older_version_shrinks_when_no_process_works_here(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ledger.sqlite.pruning._LEAST_FREE_BYTES", 0)
    path = await old_ledger(tmp_path / "state", clock)
    with closing(sqlite3.connect(path, isolation_level=None)) as ledger:
        ledger.execute("PRAGMA auto_vacuum = NONE")
        ledger.execute("VACUUM")
    size = path.stat().st_size
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    with cohort_at_once(path.parent, CohortKey(PARTNER, "another")) as is_held:
        assert is_held
        assert (await prune(config, clock=clock)).ledger_bytes == 0
    assert (await prune(config, clock=clock)).ledger_bytes > 0.3 * size


async def test_another_process_writes_between_any_two_small_parts(
    tmp_path: Path, clock: HandClock
) -> None:
    path = await old_ledger(tmp_path / "state", clock)
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    bounds = bounds_of(config, clock.utc_ns)
    others = 0
    with (
        Pruner.open(path) as pruner,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other,
    ):

        def write_at_once() -> int:
            other.execute("BEGIN IMMEDIATE")
            other.execute("INSERT INTO probe DEFAULT VALUES")
            other.execute("COMMIT")
            return 1

        old = [run for key in pruner.cohorts() for run in pruner.old_runs(key, bounds, dropped=[])]
        assert len(old) > 5
        for run in old:
            pruner.delete_run(run.number)
            others += write_at_once()
        while deleted := pruner.delete_some():
            assert deleted <= 500
            others += write_at_once()
        while pruner.return_some():
            others += write_at_once()
    assert others > len(old) * 2 * (EACH // 500)


async def test_a_run_that_is_half_deleted_is_on_no_list_and_goes_with_the_next_prune(
    tmp_path: Path, clock: HandClock
) -> None:
    path = await old_ledger(tmp_path / "state", clock)
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    with Pruner.open(path) as pruner:
        pruner.delete_run(1)
        pruner.delete_some()  # And the process dies.
    assert rows(path, "SELECT count(*) FROM attempt WHERE run = 1") == [(EACH - 500,)]
    assert "20260101-000001-abcd" not in {accounts.run for accounts in all_runs(config.state_dir)}
    await prune(config, clock=clock)
    assert rows(path, "SELECT count(*) FROM attempt WHERE run = 1") == [(0,)]


async def test_a_prune_holds_a_cohort_for_less_time_than_a_run_tries_to_get_it(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is free while rows are deleted, and between any two runs once the time is up."""
    monkeypatch.setattr(retention, "_HELD_SECONDS", -1.0)
    path = await old_ledger(tmp_path / "state", clock)
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    expected = await prune(config, is_dry_run=True, clock=clock)
    delete_some, free = Pruner.delete_some, []

    def delete(pruner: Pruner) -> int:
        with all_at_once(path.parent) as holder:
            free.append(holder is None)
        return delete_some(pruner)

    monkeypatch.setattr(Pruner, "delete_some", delete)
    ended = await prune(config, clock=clock, ends=lambda: len(free) > 2)
    assert 0 < ended.runs < expected.runs
    done = await prune(config, clock=clock)
    assert ended.runs + done.runs == expected.runs > 5
    assert len(free) > expected.runs
    assert all(free)


async def test_what_a_later_run_needs_is_never_deleted(tmp_path: Path, clock: HandClock) -> None:
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    folder = tmp_path / "state" / "http%3A%2F%2F127.0.0.1%3A1" / "W"
    folder.mkdir(parents=True)
    ledger = await Ledger.open(folder / LEDGER_NAME, clock)
    kept = {}
    # An unfinished push, which no later run has overtaken.
    kept["unfinished"] = await begin(ledger, key("a"))
    await finish(ledger, kept["unfinished"])
    # A push whose uids stay unconfirmed, although others finished after it.
    kept["unconfirmed"] = await begin(ledger, key("b"))
    await ledger.sends.intend(kept["unconfirmed"], [registration(1, 0, 5)], 1, 1)
    lost = verdict(clock, "unconfirmed", applied=True)
    await ledger.sends.conclude(kept["unconfirmed"], 1, 1, lost, None)
    await ledger.runs.abandon(kept["unconfirmed"].run.number, "by a test")
    gone = []
    for number in range(3):
        run = await begin(ledger, key("b", f"{number}.csv"))
        await send(ledger, run, 1, clock, [registration(1, 0, 5)])
        await finish(ledger, run, "finished")
        gone.append(run)
    kept["last"] = gone.pop()
    clock.advance(YEAR)
    # The numbers of runs and attempts are not used again.
    kept["the last attempt"] = await begin(ledger, key("c"))
    await send(ledger, kept["the last attempt"], 1, clock, [registration(1, 0, 5)])
    await finish(ledger, kept["the last attempt"], "finished")
    await ledger.close()
    clock.advance(YEAR)
    assert (await prune(config, clock=clock)).runs == len(gone)
    names = {accounts.run for accounts in all_runs(config.state_dir)}
    assert names == {state.run.name for state in kept.values()}


def key(cohort: str, file: str = "export.csv") -> RunKey:
    return replace(KEY, cohort=model.Cohort(cohort, "Buyers"), source_identity={"files": [file]})


def test_a_rejected_uid_stays_known_as_long_as_it_is_left_alone(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path, poison=frozenset({UIDS[0]}))
    pushes = cohort.commands
    config = pushes.config()
    config = replace(config, mirror=replace(config.mirror, retry_rejected_days=400.0))
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    for number in range(3):
        cohort.carry_out(MirrorRun(frozenset(UIDS[1 : 6 + number]), pause=100 * DAY))
        pruned(config, RestingClock(pushes.machine))
    assert rows(pushes.ledger, "SELECT uid FROM rejected") == [(UIDS[0],)]
    config = replace(config, mirror=replace(config.mirror, retry_rejected_days=7.0))
    pruned(config, RestingClock(pushes.machine))
    assert rows(pushes.ledger, "SELECT uid FROM rejected") == []


async def test_the_last_record_of_a_cohort_and_its_last_success_are_kept(
    tmp_path: Path, clock: HandClock
) -> None:
    config = replace(config_of(tmp_path), state_dir=tmp_path / "state")
    folder = tmp_path / "state" / "http%3A%2F%2F127.0.0.1%3A1" / "W"
    folder.mkdir(parents=True)
    ledger = await Ledger.open(folder / LEDGER_NAME, clock)
    now = clock.stamp().utc_ns
    ended = {"a": [0, 1, 0, 1, 1], "b": [4], "c": [0] * 600, "d": [None, None]}
    await ledger.syncs.enter(
        SyncRecord(
            f"s{number}", cohort, PARTNER, cohort, now + number, "2026-01-01", exit_status=each
        )
        for cohort, statuses in ended.items()
        for number, each in enumerate(statuses)
    )
    clock.advance(YEAR)
    young = SyncRecord("young", "e", PARTNER, "e", clock.stamp().utc_ns, "2027-01-01")
    await ledger.syncs.enter([young])
    await ledger.close()
    dry = await prune(config, is_dry_run=True, clock=clock)
    done = await prune(config, clock=clock)
    assert dry.sync_records == done.sync_records == 3 + 599 + 1
    kept = rows(folder / LEDGER_NAME, "SELECT cohort, sync FROM synced_cohort ORDER BY 1, 2")
    assert kept == [
        ("a", "s2"),
        ("a", "s4"),
        ("b", "s0"),
        ("c", "s599"),
        ("d", "s1"),
        ("e", "young"),
    ]


def test_a_dry_run_reads_a_ledger_of_each_version(tmp_path: Path, clock: HandClock) -> None:
    anywhere = config_of(tmp_path)
    for version in range(1, len(MIGRATIONS)):
        config = replace(anywhere, state_dir=tmp_path / f"state-{version}")
        folder = config.state_dir / "http%3A%2F%2F127.0.0.1%3A1" / "W"
        folder.mkdir(parents=True)
        with closing(open_ledger(folder / LEDGER_NAME, MIGRATIONS[:version])) as ledger:
            ledger.execute(
                "INSERT INTO run (run, name, identity, endpoint, workspace, partner, cohort_id, "
                "cohort_name, action, exports, reading, sizes, status, started_utc_ns) "
                "VALUES (1, 'r', x'00', 'e', 'w', 'p', 'c', 'C', 'add', '[]', '{}', '{}', "
                "'finished', 0), (2, 's', x'00', 'e', 'w', 'p', 'c', 'C', 'add', '[]', '{}', '{}', "
                "'finished', 0)"
            )
        before = (folder / LEDGER_NAME).read_bytes()
        assert pruned(config, clock, is_dry_run=True).runs == 1
        assert (folder / LEDGER_NAME).read_bytes() == before
        assert pruned(config, clock).runs == 1


def test_a_cohort_that_a_process_works_on_is_skipped(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    pushes = cohort.commands
    for number in range(3):
        cohort.carry_out(MirrorRun(frozenset(UIDS[number : number + 4]), pause=100 * DAY))
    pushes.machine.pause(300 * DAY)
    before = rows(pushes.ledger, "SELECT name FROM run")
    with cohort_at_once(pushes.ledger.parent, CohortKey(PARTNER, "cohort-1")) as is_held:
        assert is_held
        done = pruned(pushes.config(), RestingClock(pushes.machine))
    assert done.skipped == ["cohort-1"]
    assert rows(pushes.ledger, "SELECT name FROM run") == before
    assert pruned(pushes.config(), RestingClock(pushes.machine)).runs > 0


def test_files_that_a_process_left_are_deleted_and_others_are_not(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    pushes = cohort.commands
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    folder = pushes.ledger.parent
    orphan = plan_folder(folder, "20200101-000000-abcd")
    orphan.mkdir()
    (orphan / "adds.parquet").write_bytes(b"x" * 1000)
    foreign = [plan_folder(folder, "mine"), folder / "plans" / "notes.txt", folder / "notes"]
    for path in foreign:
        path.write_bytes(b"x")
    backup = folder / f"{LEDGER_NAME}.v3.bak"
    backup.write_bytes(b"x" * 500)
    os.utime(backup, (0, 0))
    done = pruned(pushes.config(), RestingClock(pushes.machine))
    assert (done.plans, done.files, done.file_bytes) == (1, 1, 1500)
    assert not orphan.exists()
    assert not backup.exists()
    assert all(path.exists() for path in foreign)


def test_nothing_is_deleted_beside_an_old_copy_of_the_ledger(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    pushes = cohort.commands
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    shutil.copy(pushes.ledger, tmp_path / "copy")
    cohort.carry_out(MirrorRun(frozenset(UIDS[2:6])))
    shutil.copy(tmp_path / "copy", pushes.ledger)
    plans = sorted((pushes.ledger.parent / "plans").iterdir())
    with pytest.raises(LedgerError, match="it was lost, or is an old copy"):
        pruned(pushes.config(), RestingClock(pushes.machine))
    assert sorted((pushes.ledger.parent / "plans").iterdir()) == plans


def test_the_size_of_the_state_is_that_of_its_files(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    pushes = cohort.commands
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    cohort.carry_out(MirrorRun(frozenset(UIDS[:3]), push=None))
    found = state_usage(pushes.state)
    assert tuple(found) == KINDS
    files = [path for path in pushes.state.rglob("*") if path.is_file()]
    counted = [path for path in files if "lock" not in path.name]
    assert sum(found.values()) == sum(path.stat().st_size for path in counted)
    assert found["snapshots"] > 0
