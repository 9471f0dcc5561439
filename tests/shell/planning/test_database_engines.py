"""A database compares and moves a snapshot as this machine does, uid by uid."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from comparison_cases import OPTIONS, THIS_RUN, Case, blocks_of, cases, known_in, stage_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_snapshot import SETTINGS, snapshot_of

from engine.errors import IncompleteError, LedgerError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.database.duckdb_session import duckdb_session
from engine.planning.database.engine import ExternalEngine
from engine.planning.database.failures import Failures
from engine.planning.database.postgres_session import PostgresSession, postgres_session
from engine.planning.database.session import DatabaseSession, Session
from engine.planning.database.statements import Tables
from engine.planning.database.tables import TableGenerations
from engine.planning.local_engine import LOCAL
from engine.planning.staging import stage
from engine.runs.engines import opened
from engine.runs.ports import PlanEngine
from engine.snapshot.fold import RunChanges
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Comparison, PlannedOperation, Snapshot, UidState
from engine.source.sql.connection import Connection
from engine.source.sql.driver_errors import Said
from engine.storage.computation import Interruption
from engine.storage.paths import generation_path

if TYPE_CHECKING:
    from postgres_server import PostgresServer

Open = Callable[[Interruption], AbstractContextManager[Session]]
Engine = ExternalEngine[Any]
_names = count()
SPARK = pytest.param("spark", marks=pytest.mark.spark)


@dataclass(frozen=True)
class Place:
    """Where snapshots are kept: a database or a lake of the test's own."""

    open: Open
    engine: Callable[[str, int], Engine]
    """Returns the engine of a cohort by its name, which keeps so many generations."""
    long_query: str = "select count(*) from generate_series(1, 400000000) a(i) where i % 7 = 3"


@pytest.fixture(params=["duckdb", "postgres", "snowflake", "bigquery", SPARK])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Yield a database or a lake of the test's own."""
    if request.param == "spark":
        request.getfixturevalue("spark")
        yield _lake(tmp_path / "lake")
        return
    if request.param in {"snowflake", "bigquery"}:
        with _warehouse(request.param, tmp_path / "warehouse.duckdb") as found:
            yield found
        return
    server: PostgresServer | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
    else:
        pytest.importorskip("duckdb")
    found = _database(server, tmp_path)
    with ExitStack() as kept:
        if server is None:
            # While one connection is open, DuckDB does not open the file for each of the others.
            kept.enter_context(found.open(Interruption()))
        yield found


def _database(server: "PostgresServer | None", folder: Path) -> Place:
    @contextmanager
    def session(interruption: Interruption) -> Iterator[DatabaseSession]:
        failures = Failures("the database", Said("the database", ()), interruption)
        with ExitStack() as opened:
            if server is not None:
                found: DatabaseSession = opened.enter_context(
                    postgres_session(server.url, SETTINGS, failures)
                )
            else:
                path = folder / "plans.duckdb"
                found = opened.enter_context(duckdb_session(path, SETTINGS, failures))
            opened.enter_context(interruption.calling(found.cancel))
            yield found

    def engine(name: str, kept: int) -> Engine:
        generations = TableGenerations(Tables(name), kept)
        return ExternalEngine(session, "warehouse", "the database", generations)

    return Place(session, engine)


@contextmanager
def _warehouse(dialect: str, path: Path) -> Iterator[Place]:
    """Yield a warehouse that is simulated by a DuckDB file."""
    for each in ("duckdb", "sqlglot", "adbc_driver_manager", "google.cloud.bigquery_storage"):
        pytest.importorskip(each)
    from simulated_warehouse import URLS, simulated  # noqa: PLC0415 - extras

    @contextmanager
    def session(interruption: Interruption) -> Iterator[DatabaseSession]:
        connection = Connection("warehouse", URLS[dialect], path.parent)
        with (
            opened(connection, SETTINGS, interruption) as found,
            interruption.calling(found.cancel),
        ):
            yield found

    def engine(name: str, kept: int) -> Engine:
        generations = TableGenerations(Tables(name), kept)
        return ExternalEngine(session, "warehouse", "the database", generations)

    digits = " union all ".join(f"select {each} as i" for each in range(10))
    tables = ", ".join(f"d {name}" for name in "abcdefghj")
    query = f"with d as ({digits}) select count(*) from {tables} where a.i * b.i + c.i * j.i > 9"
    with simulated(dialect, path):
        yield Place(session, engine, query)


def _lake(folder: Path) -> Place:
    from engine.planning.spark.generations import LakeGenerations  # noqa: PLC0415 - an extra
    from engine.planning.spark.lake import CohortFolder  # noqa: PLC0415 - an extra
    from engine.planning.spark.process import PROCESSES  # noqa: PLC0415 - an extra
    from engine.planning.spark.session import cluster_session  # noqa: PLC0415 - an extra

    def engine(name: str, kept: int = 0) -> Engine:
        del kept
        cohort = CohortFolder(str(folder), name)

        @contextmanager
        def session(interruption: Interruption) -> Iterator[Session]:
            with (
                cluster_session(
                    cohort,
                    lambda: PROCESSES.get("local[2]", SETTINGS),
                    interruption,
                    datetime(2026, 1, 1, tzinfo=UTC),
                ) as found,
                interruption.calling(found.cancel),
            ):
                yield found

        return ExternalEngine(session, "cluster", cohort.place, LakeGenerations(cohort))

    query = "select count(*) from range(400000000000) where id % 7 = 3"
    return Place(engine("c").open, engine, query)


def engine_in(place: Place, name: str | None = None, kept: int = 3) -> Engine:
    return place.engine(name or f"c{next(_names)}", kept)


def made(engine: PlanEngine, case: Case, folder: Path, number: int = 1) -> Snapshot:
    """Make a generation of what was acknowledged."""
    return engine.make(
        lambda path, _: snapshot_of(case.known, path, is_sorted=True),
        generation_path(folder, number),
        OPTIONS,
    )


def compared(engine: PlanEngine, case: Case, base: Snapshot | None, folder: Path) -> Comparison:
    with engine.comparing(folder, OPTIONS) as comparison:
        staged, conditions = stage_case(case, comparison.new_list)
        return comparison.compare(staged, base, folder, OPTIONS, conditions)


def content(operation: PlannedOperation) -> list[list[dict[str, Any]]]:
    """Return the rows of an operation by kind; the order of the rows of a kind is an engine's."""
    rows = pq.read_table(operation.path).to_pylist()
    ends = [0, operation.plain, operation.suspect, operation.held, operation.known]
    for place in range(1, len(ends)):
        ends[place] += ends[place - 1]
    assert ends[-1] == len(rows)
    parts = [rows[start:end] for start, end in pairwise(ends)]
    return [sorted(part, key=lambda row: bytes(row["uid"])) for part in parts]


def summary(found: Comparison) -> tuple[object, ...]:
    return (
        *(content(found.adds), content(found.removes)),
        pq.read_table(found.resends.path).to_pylist(),
        *(found.adds.doubtful, found.removes.doubtful, found.resent_through),
        *(found.unchanged, found.duplicate, found.excluded),
    )


def rows_in(engine: PlanEngine, snapshot: Snapshot, folder: Path) -> dict[str, Any]:
    if engine is LOCAL:
        return known_in(snapshot.path)
    return known_in(engine.as_file(snapshot, folder / "rows.parquet", OPTIONS).path)


FEW = settings(
    max_examples=max(settings().max_examples // 20, 3),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(case=cases, data=st.data())
def test_nights_on_a_database_are_those_on_this_machine(
    place: Place, case: Case, data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        engines: list[PlanEngine] = [LOCAL, engine_in(place)]
        folders = [Path(name, each) for each in ("local", "database")]
        for folder in folders:
            folder.mkdir()
        nights = zip(engines, folders, strict=True)
        bases = [made(engine, case, folder) for engine, folder in nights]
        assert bases[0].census == bases[1].census
        for number in (2, 3):
            both = list(zip(engines, bases, folders, strict=True))
            found = [compared(engine, case, base, folder) for engine, base, folder in both]
            assert summary(found[0]) == summary(found[1])
            changes = _changes(found[0], data, number)
            bases = [
                engine.fold(base, changes, generation_path(folder, number), OPTIONS)
                for engine, base, folder in both
            ]
            both = list(zip(engines, bases, folders, strict=True))
            rows = [rows_in(engine, base, folder) for engine, base, folder in both]
            assert rows[0] == rows[1]
            assert bases[0].census == bases[1].census
            for engine, base, _ in both:
                engine.verify(base, is_thorough=True)
                assert {uid: engine.look_up(base.path, uid) for uid in sorted(rows[0])[:1]} == {
                    uid: rows[0][uid] for uid in sorted(rows[0])[:1]
                }
            export = data.draw(st.permutations(case.export))[: len(case.export) // 2]
            is_listed = data.draw(st.booleans())
            removals = data.draw(st.frozensets(st.integers(0, 14))) if is_listed else None
            resend = None if is_listed else case.resend
            case = Case(export, {}, case.recent, case.rejected, case.waiting, resend)
            case = replace(case, removals=removals)


def _changes(found: Comparison, data: st.DataObject, number: int) -> RunChanges:
    """Return changes of which some were accepted, some not, and some have no outcome."""
    outcomes = []
    for operation, file in ((Operation.ADD, found.adds), (Operation.REMOVE, found.removes)):
        cut = data.draw(st.integers(0, file.planned))
        for start, end, is_accepted in ((0, cut, True), (cut, file.planned, False)):
            if start < end and data.draw(st.integers(0, 4)):
                outcomes.append(RangeOutcome(operation, start, end - start, is_accepted))
    operations = [
        OperationUids(Operation.ADD, {0: found.adds.path}),
        OperationUids(Operation.REMOVE, {0: found.removes.path}),
    ]
    run = THIS_RUN + number
    return RunChanges(run, operations, outcomes, [*data.draw(st.sampled_from([[], [11]])), run])


CASE = Case(["a", "b"], {"b": (UidState.IN, 1), "c": (UidState.IN, 1)}, frozenset(), {})


def test_a_stop_ends_what_the_database_does(place: Place) -> None:
    stopped = Interruption()
    with place.open(stopped) as session:
        timer = threading.Timer(0.1, stopped.trip, [IncompleteError("stopped")])
        timer.start()
        with pytest.raises(IncompleteError, match="stopped"):
            session.rows(place.long_query)
        timer.join()


def test_a_process_that_died_in_its_move_makes_it_once_more(place: Place, tmp_path: Path) -> None:
    engine = engine_in(place)
    base = made(engine, CASE, tmp_path)
    changes = RunChanges(2, [], [], [2])
    target = generation_path(tmp_path, 2)
    after = engine.fold(base, changes, target, OPTIONS)
    again = engine.fold(base, changes, target, OPTIONS)
    assert (again.path, again.census) == (after.path, after.census)
    assert again.digest != after.digest
    engine.verify(again, is_thorough=True)
    with pytest.raises(LedgerError, match="corrupt"):
        engine.verify(after)


def test_of_two_that_move_one_generation_the_second_is_refused(
    place: Place, tmp_path: Path
) -> None:
    name = f"c{next(_names)}"
    here, there = tmp_path / "here", tmp_path / "there"
    engine = engine_in(place, name)
    here.mkdir()
    base = made(engine, CASE, here)
    shutil.copytree(here, there)
    moved = engine.fold(base, RunChanges(2, [], [], [2]), generation_path(here, 2), OPTIONS)
    known_there = replace(base, path=there / base.path.name)
    for number in (2, 3):
        target = generation_path(there, number)
        with pytest.raises(LedgerError, match="another machine has moved"):
            engine.fold(known_there, RunChanges(3, [], [], [3]), target, OPTIONS)
    with pytest.raises(LedgerError, match="another machine has moved"):
        made(engine, CASE, there, 2)
    with pytest.raises(LedgerError, match="another machine has moved"):
        compared(engine, CASE, known_there, there)
    engine.verify(moved, is_thorough=True)
    assert engine.latest() == 2


def test_cohorts_of_one_process_are_made_at_the_same_time(place: Place, tmp_path: Path) -> None:
    if place.open.__qualname__.startswith("_warehouse"):
        pytest.skip("the file behind a simulation makes tables in one session at a time")
    with place.open(Interruption()) as session:
        if isinstance(session, PostgresSession):
            session.execute("drop schema if exists cohortsync cascade")
    folders = [tmp_path / f"{number}" for number in range(6)]
    engines = [engine_in(place) for _ in folders]
    for each in folders:
        each.mkdir()
    with ThreadPoolExecutor(len(folders)) as pool:
        bases = list(pool.map(made, engines, [CASE] * len(folders), folders))
    for engine, base in zip(engines, bases, strict=True):
        engine.verify(base, is_thorough=True)


def test_no_more_is_kept_than_the_kept_generations_need(place: Place, tmp_path: Path) -> None:
    if place.open.__qualname__.startswith("_lake"):
        pytest.skip("files are kept as long as their records")
    engine = engine_in(place, kept=2)
    base = first = made(engine, CASE, tmp_path)
    for number in (2, 3, 4, 5):
        rows = {"c": (UidState.IN, number), "d": (UidState.OUT, number)}
        base = made(engine, replace(CASE, known=rows), tmp_path, number)
    with pytest.raises(LedgerError, match="has no generation 1"):
        engine.verify(first)
    with place.open(Interruption()) as session:
        kept = session.rows(
            f"select distinct generation from cohortsync.changes_{engine.generations.name}"
        )
    assert sorted(kept) == [(4,), (5,)]
    assert rows_in(engine, base, tmp_path) == rows


def test_a_connection_that_is_lost_is_named_and_nothing_is_moved(
    postgres: "PostgresServer", tmp_path: Path
) -> None:
    engine = engine_in(_database(postgres, tmp_path))
    base = made(engine, CASE, tmp_path)
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    with engine.comparing(tmp_path, OPTIONS) as comparison:
        rows = comparison.new_list()
        postgres.execute(f"{kill} and application_name = 'cohortsync'")
        with pytest.raises(IncompleteError, match="the database: "):
            stage(blocks_of(CASE.export), rows)
    engine.verify(base, is_thorough=True)


def test_too_little_memory_is_named_with_the_key_to_raise(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    failures = Failures("the database", Said("the database", ()), Interruption())
    few = replace(SETTINGS, memory_megabytes=64)
    with (
        duckdb_session(tmp_path / "plans.duckdb", few, failures) as session,
        pytest.raises(IncompleteError, match="too little memory") as caught,
    ):
        session.rows("select length(list(i)) from range(100000000) t(i)")
    assert "plan.memory_megabytes" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "too little memory"),
        (MemoryError("Out of Memory Error: failed to pin block (500 MB/500 MB)"), "memory for"),
        (
            OSError("Out of Memory Error: failed to offload: see 'max_temp_directory_size'"),
            "too little space on the disk",
        ),
        (OSError("IO Error: Could not write file: No space left on device"), "space on the disk"),
    ],
)
def test_what_a_comparison_lacks_is_named(error: Exception, message: str) -> None:
    failures = Failures("the database", Said("the database", ()), Interruption())
    with (
        pytest.raises(IncompleteError, match=message) as caught,
        failures.named((MemoryError, OSError)),
    ):
        raise error
    assert "`plan." in str(caught.value.hint)
