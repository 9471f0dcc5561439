"""Nights of mirrors whose exports are compared in a database, with faults and deaths."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listed_members import adopt, reconcile
from mirror_nights import fine_runs, mirror_runs, rows_of_changes
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from restored import LIFT, back_up, put_back
from whole_push import COHORT, PLANNING, Death

from engine.errors import ExitStatus, LedgerError
from engine.model.cohort import Action
from engine.planning.database.duckdb_session import duckdb_session
from engine.planning.database.failures import Failures
from engine.runs import transfer
from engine.runs.engines import try_engine
from engine.runs.inquiry import why
from engine.snapshot.file_format import look_up
from engine.snapshot.records import UidState
from engine.source.sql.connection import Connection
from engine.source.sql.driver_errors import Said
from engine.storage.computation import Interruption
from postgres_server import PostgresServer

FAILURES = Failures("the database", Said("the database", ()), Interruption())


@pytest.fixture(
    params=[
        "duckdb",
        pytest.param("postgres", marks=pytest.mark.slow),
        pytest.param("spark", marks=pytest.mark.spark),
    ]
)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Connection:
    """Return a connection to a database, or a lake, of the test's own."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb")
        return Connection("warehouse", f"duckdb:{tmp_path}/plans.duckdb", tmp_path)
    if request.param == "spark":
        request.getfixturevalue("spark")
        return Connection("cluster", "spark:local[2]", tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return empty(server, tmp_path)


def empty(server: PostgresServer, folder: Path) -> Connection:
    """Return a connection to the server, which has no snapshot."""
    _clear(server)
    return Connection("warehouse", server.url, folder)


def _clear(server: PostgresServer) -> None:
    server.execute("drop schema if exists cohortsync cascade")


def test_nights_with_faults_and_deaths_on_postgresql(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """What the slow tests search, in four nights of the default run."""
    cohort = Cohort(tmp_path / "cohort", connection=empty(postgres, tmp_path))
    mirrored(cohort, UIDS[:6])
    troubled = [
        MirrorRun(frozenset(UIDS[2:8]), ("500", "reset applied"), pause=SETTLE),
        MirrorRun(frozenset(UIDS[4:10]), pause=SETTLE, death=Death("before enter")),
        MirrorRun(frozenset(UIDS[6:12]), ("429", "500 applied"), pause=SETTLE, signals=(0.5,)),
    ]
    died = [cohort.carry_out(each).died for each in troubled]
    assert died == [False, True, False]
    mirrored(cohort, UIDS[5:11])
    known = cohort.commands.look(lambda store: store.verify_all())
    assert [problem for _, problem in known] == [None] * len(known)


@pytest.mark.slow
@given(
    troubled=st.lists(mirror_runs, max_size=3),
    fine=st.tuples(fine_runs, rows_of_changes),
    resends=st.sampled_from([0, 1, 3]),
)
@settings(
    max_examples=max(settings().max_examples // 5, 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_after_a_fault_free_run_the_members_are_the_export(
    database: Connection,
    request: pytest.FixtureRequest,
    troubled: list[MirrorRun],
    fine: tuple[MirrorRun, tuple[tuple[str, Action], ...]],
    resends: int,
) -> None:
    last, says = fine
    with TemporaryDirectory() as name:
        if database.path is not None:
            database.path.unlink(missing_ok=True)
        elif database.scheme == "spark":
            shutil.rmtree(database.folder / "lake", ignore_errors=True)
        else:
            _clear(request.getfixturevalue("postgres"))
        cohort = Cohort(Path(name), resend_over_nights=resends, connection=database)
        for mirror_run in troubled:
            cohort.carry_out(mirror_run)
        ended = cohort.carry_out(last)
        assert ended.exit_status is ExitStatus.ACCEPTED
        assert cohort.members() == last.wanted
        ended = cohort.carry_out(replace(last, says=says))
        assert ended.exit_status is ExitStatus.ACCEPTED
        added = {uid for uid, said in dict(says).items() if said is Action.ADD}
        assert cohort.members() == (last.wanted - dict(says).keys()) | added


@pytest.fixture
def cohort(tmp_path: Path, database: Connection) -> Iterator[Cohort]:
    made = Cohort(tmp_path / "cohort", connection=database)
    with ExitStack() as kept:
        if database.path is not None:
            # While one connection is open, DuckDB does not open the file for each of the others.
            kept.enter_context(duckdb_session(database.path, PLANNING, FAILURES))
        yield made


def mirrored(cohort: Cohort, *nights: list[str]) -> None:
    for wanted in nights:
        assert cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE)).exit_status == 0
        assert cohort.members() == set(wanted)


def test_a_file_that_no_mirror_has_made_is_not_made_to_check_it(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    database = Connection("warehouse", f"duckdb:{tmp_path}/plans.duckdb", tmp_path)
    config = Cohort(tmp_path / "cohort", connection=database).commands.config()
    assert "is made by the first mirror" in try_engine(config)
    assert not (tmp_path / "plans.duckdb").exists()


def test_no_row_of_a_snapshot_is_on_this_machine(cohort: Cohort, database: Connection) -> None:
    mirrored(cohort, UIDS[:6], UIDS[2:8])
    assert f"compares at {database.shown}" in try_engine(cohort.commands.config())
    assert [path.name for path in cohort.snapshots] == ["000001.json", "000002.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in cohort.snapshots)
    assert not any(UIDS[3] in path.read_text() for path in cohort.snapshots)


@pytest.mark.parametrize("point", ["before enter", "after enter"])
def test_a_death_when_the_database_has_moved_and_the_ledger_has_not(
    cohort: Cohort, point: str
) -> None:
    mirrored(cohort, UIDS[:6])
    death = Death(point)
    assert cohort.carry_out(MirrorRun(frozenset(UIDS[3:9]), pause=SETTLE, death=death)).died
    mirrored(cohort, UIDS[1:7], UIDS[2:8])


def test_a_plan_is_sent_in_parts_as_it_was_made(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:2])
    planned = cohort.commands.mirror(UIDS[:9], sends=False)
    assert planned.result is not None
    plan = planned.result.accounts.run
    assert cohort.commands.apply(plan, first=4).exit_status is ExitStatus.ACCEPTED
    assert len(cohort.members()) == 6
    assert cohort.commands.apply(plan).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:9])


@pytest.mark.slow
def test_the_way_back_leads_through_the_database(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:6], UIDS[2:8], UIDS[4:10])
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.rollback(1).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:6])
    known = cohort.commands.look(lambda store: store.verify_all())
    assert [(each.members, problem) for each, problem in known] == [(6, None)] * 4
    inquiry = why(cohort.commands.config(), UIDS[1], COHORT.id)
    assert (inquiry.membership, inquiry.generation) == ("in", 4)
    assert why(cohort.commands.config(), UIDS[8], COHORT.id).membership == "out"


def test_lists_of_members_replace_what_the_database_has(cohort: Cohort, tmp_path: Path) -> None:
    mirrored(cohort, UIDS[:4])
    cohort.commands.machine.pause(SETTLE)
    adopted = cohort.commands.in_session(lambda store: adopt(store, UIDS[2:6]))
    assert (adopted.members, adopted.unknown) == (4, 2)
    cohort.commands.machine.pause(SETTLE)
    made = cohort.commands.in_session(lambda store: reconcile(store, UIDS[2:7]))
    assert (made.members, made.unknown) == (5, 0)
    carried = tmp_path / "carried.parquet"
    cohort.commands.look(lambda store: transfer.export(store, carried, 1, "here"))
    assert look_up(carried, UIDS[3]) == (UidState.IN, 1)
    imported = cohort.commands.in_session(
        lambda store: transfer.import_snapshot(store, carried, "here")
    )
    assert (imported.number, imported.members) == (4, 4)
    mirrored(cohort, UIDS[1:9])


@pytest.mark.slow
def test_a_plan_may_begin_with_nothing_or_with_an_older_generation(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:6], UIDS[2:8])
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.mirror(UIDS[3:9], trust=1).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[3:9])
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.mirror(UIDS[3:9], assume_empty=True).exit_status is ExitStatus.ACCEPTED
    mirrored(cohort, UIDS[5:11])


def test_of_two_machines_with_one_snapshot_one_is_refused(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:6])
    commands = cohort.commands
    here, there = commands.ledger.parents[2], commands.folder / "there"
    shutil.copytree(here, there)
    mirrored(cohort, UIDS[2:8])
    away = commands.folder / "away"
    here.rename(away)
    there.rename(here)  # The other machine, which does not know of the second night.
    before = len(cohort.scripted_server.arrived)
    refused = commands.mirror(UIDS[:3])
    assert refused.exit_status is ExitStatus.USAGE
    assert refused.error is not None
    assert "does not know of generation 2 of cohort" in refused.error.message
    assert len(cohort.scripted_server.arrived) == before
    shutil.rmtree(here)
    away.rename(here)
    mirrored(cohort, UIDS[4:9])


def test_a_machine_that_moves_a_snapshot_while_another_sends_is_noticed(cohort: Cohort) -> None:
    mirrored(cohort, UIDS[:6])
    commands = cohort.commands
    here, mine = commands.ledger.parents[2], commands.folder / "mine"
    planned = commands.mirror(UIDS[:9], sends=False)
    assert planned.result is not None
    shutil.copytree(here, mine)
    mirrored(cohort, UIDS[2:8])
    shutil.rmtree(here)
    mine.rename(here)
    refused = commands.apply(planned.result.accounts.run)
    assert refused.exit_status is ExitStatus.USAGE
    assert cohort.members() == set(UIDS[2:8])


def test_rows_that_another_program_has_changed_are_noticed(
    cohort: Cohort, database: Connection
) -> None:
    mirrored(cohort, UIDS[:6])
    cohort.commands.machine.pause(SETTLE)
    if database.scheme == "spark":
        _lose_rows(database.folder / "lake")
    else:
        execute(database, "delete from cohortsync.{members} where state = 1")
    before = len(cohort.scripted_server.arrived)
    noticed = cohort.commands.mirror(UIDS[:6])
    assert noticed.exit_status is ExitStatus.USAGE
    assert noticed.result is not None
    assert "another program has changed it" in str(noticed.result.accounts.reason)
    assert len(cohort.scripted_server.arrived) == before
    [(_, problem)] = cohort.commands.look(lambda store: store.verify_all())
    assert problem is not None
    if database.scheme == "spark":
        shutil.rmtree(database.folder / "lake")
    else:
        execute(database, "drop table cohortsync.{members}")
    lost = cohort.commands.mirror(UIDS[:6])
    assert lost.error is not None
    assert "was lost" in lost.error.message
    assert cohort.commands.mirror(UIDS[:6], assume_empty=True).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:6])


def test_a_cohort_moves_from_files_into_a_database_and_not_back(
    tmp_path: Path, database: Connection
) -> None:
    cohort = Cohort(tmp_path / "cohort")
    mirrored(cohort, UIDS[:6])
    planning = cohort.commands.planning
    cohort.compare_on(database)
    mirrored(cohort, UIDS[2:8], UIDS[3:9])
    assert [path.suffix for path in cohort.snapshots] == [".parquet", ".json", ".json"]
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.rollback(1).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:6])
    cohort.commands.planning = planning
    refused = cohort.commands.mirror(UIDS[:6])
    assert refused.error is not None
    assert "is kept in a database" in refused.error.message
    assert "plan.engine" in str(refused.error.hint)


def test_a_backup_is_restored_if_the_database_has_not_moved_since(
    cohort: Cohort, tmp_path: Path
) -> None:
    mirrored(cohort, UIDS[:6], UIDS[2:8])
    back_up(cohort.commands, tmp_path / "backup")
    restored = put_back(cohort.commands, tmp_path / "backup")
    assert restored.cohorts == [COHORT.id]
    asked = cohort.commands.mirror(UIDS[4:10])
    assert asked.exit_status is ExitStatus.GUARDED
    cohort.commands.machine.pause(SETTLE)
    for _ in range(2):
        ended = cohort.commands.mirror(UIDS[4:10], **LIFT)
        assert ended.exit_status is ExitStatus.ACCEPTED
    mirrored(cohort, UIDS[4:10], UIDS[1:7])


def test_a_backup_is_refused_whole_if_the_database_has_moved_since(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("whole_push.COHORT", replace(COHORT, id="before"))
        cohort.commands.mirror(UIDS[:3])
    mirrored(cohort, UIDS[:6])
    back_up(cohort.commands, tmp_path / "backup")
    mirrored(cohort, UIDS[2:8])
    with pytest.raises(LedgerError, match=f"cohort {COHORT.id} is not as it was at") as why:
        put_back(cohort.commands, tmp_path / "backup")
    assert "nothing was changed" in str(why.value.hint)
    assert not list(cohort.commands.state.glob("before-restore-*"))
    # The other cohort, which has not moved, is as it was, too.
    mirrored(cohort, UIDS[4:10])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("whole_push.COHORT", replace(COHORT, id="before"))
        assert cohort.commands.mirror(UIDS[1:4]).exit_status is ExitStatus.ACCEPTED


def _lose_rows(lake: Path) -> None:
    """Write the files of a generation anew, without rows."""
    for path in lake.glob("*/0*/*.parquet"):
        pq.write_table(pq.read_schema(path).empty_table(), path)
        path.with_name(f".{path.name}.crc").unlink(missing_ok=True)


def execute(database: Connection, statement: str) -> None:
    """Run a statement with the name of the only table of rows."""
    find = "select table_name from information_schema.tables where table_name like 'members_%'"
    if database.path is not None:
        with duckdb_session(database.path, PLANNING, FAILURES) as session:
            [(name,)] = session.rows(find)
            session.execute(statement.format(members=name))
        return
    import adbc_driver_postgresql.dbapi as postgres  # noqa: PLC0415 - an extra

    with postgres.connect(database.url, autocommit=True) as connection, connection.cursor() as it:
        it.execute(find)
        [(name,)] = it.fetchall()
        it.execute(statement.format(members=name))
