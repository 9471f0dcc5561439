"""The statements in the SQL of warehouses, and what a warehouse does unlike a database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from comparison_cases import OPTIONS, Case, blocks_of
from known_snapshot import SETTINGS, snapshot_of
from simulated_warehouse import URLS, simulated, understood

from engine.errors import IncompleteError, LedgerError, UsageError
from engine.planning.conditions import NO_CONDITIONS, REJECTIONS
from engine.planning.database import statements
from engine.planning.database.engine import ExternalEngine
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
from engine.planning.database.tables import TableGenerations
from engine.planning.staging import stage
from engine.planning.warehouse.dialects import translated
from engine.runs.engines import opened
from engine.snapshot.fold import RunChanges
from engine.snapshot.records import Snapshot, UidState
from engine.source.sql.connection import Connection
from engine.storage.computation import Interruption
from engine.storage.paths import generation_path

TABLES = Tables("c1")
COMPARISON = [
    f"create temp table t ({statements.columns_of(REJECTIONS)})",
    f"create temp table d as {statements.desired('list_0', 'list_1')}",
    statements.DESIRED_COUNTS,
    statements.adds(TABLES.members, NO_CONDITIONS),
    statements.removes(TABLES.members, NO_CONDITIONS),
    statements.resends(TABLES.members, 5, goes_on=True),
    statements.states_of(f"({TABLES.rows_of(3)})"),
    statements.asked_of(TABLES.members),
]
MOVE = [
    TABLES.exist,
    *TABLES.create(""),
    *(TABLES.head, TABLES.lock_head, TABLES.set_head(2, "b", "a")),
    *(TABLES.generation(1, "a"), TABLES.generations, TABLES.enter(2, "b", (1, 2, 3))),
    *(*TABLES.apply(2), *TABLES.undo(2), *TABLES.forget(1)),
    f"insert into moved (uid) {statements.folded(TABLES.members, 3, [1, 2])}",
    f"insert into moved (uid) {statements.replaced(TABLES.members)}",
    statements.MOVED_COUNTS,
]
COMPILED = [
    *((dialect, each) for dialect in ("trino", "databricks") for each in COMPARISON),
    *((dialect, each) for dialect in ("snowflake", "bigquery") for each in COMPARISON + MOVE),
]


def test_statements_are_written_in_each_dialect() -> None:
    for dialect, statement in COMPILED:
        prefix = "temporary_1_" if dialect == "bigquery" else None
        text = translated(statement, dialect, prefix)
        assert understood(text, dialect).refusal is None, text


@pytest.mark.parametrize(
    ("dialect", "statement", "why"),
    [
        ("bigquery", "insert into `s`.`t` select 1 returning `a`", "RETURNING"),
        ("snowflake", 'insert into "t" values (1) on conflict do nothing', "ON CONFLICT"),
        ("snowflake", 'select "row" from t', "a name without quotes"),
        ("snowflake", "grant all on t to x", "an unknown statement"),
        ("bigquery", "delete from `s`.`t` using `s`.`u` where true", "DELETE USING"),
        ("bigquery", "create temp table `s`.`t` (`a` int64)", "a temporary table"),
        ("bigquery", "create table `s`.`t` (`a` int64 primary key)", "an enforced key"),
        ("bigquery", "select 1 where `a` = 1", "WHERE without FROM"),
        ("bigquery", "select 1 from `t`", "a table without a dataset"),
        (
            "bigquery",
            "select 1 from `s`.`t` as `b` where exists "  # noqa: ISC004 - one statement
            "(select 1 from `s`.`a` as `a` where `a`.`x` < `b`.`x`)",
            "a correlation without an equality",
        ),
    ],
)
def test_the_simulation_refuses_what_a_warehouse_does(
    dialect: str, statement: str, why: str
) -> None:
    assert understood(statement, dialect).refusal == why


@pytest.fixture(params=["snowflake", "bigquery"])
def warehouse(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[ExternalEngine[DatabaseSession]]:
    """Yield the engine of a cohort in a simulated warehouse."""
    connection = Connection("warehouse", URLS[request.param], tmp_path)

    @contextmanager
    def session(interruption: Interruption) -> Iterator[DatabaseSession]:
        with opened(connection, SETTINGS, interruption) as found:
            yield found

    with simulated(request.param, tmp_path / "warehouse.duckdb"):
        generations = TableGenerations(TABLES, 3)
        yield ExternalEngine(session, "warehouse", "the database", generations)


CASE = Case(["a", "b"], {"b": (UidState.IN, 1), "c": (UidState.IN, 1)}, frozenset(), {})


def made(engine: ExternalEngine[DatabaseSession], folder: Path) -> Snapshot:
    return engine.make(
        lambda path, _: snapshot_of(CASE.known, path, is_sorted=True),
        generation_path(folder, 1),
        OPTIONS,
    )


def test_a_comparison_is_refused_if_the_snapshot_moves_meanwhile(
    warehouse: ExternalEngine[DatabaseSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = made(warehouse, tmp_path)
    removes = statements.removes

    def moving(*given: object) -> str:
        monkeypatch.setattr(statements, "removes", removes)
        warehouse.fold(base, RunChanges(2, [], [], [2]), generation_path(tmp_path, 2), OPTIONS)
        return removes(*given)  # type: ignore[arg-type] # as it was given

    monkeypatch.setattr(statements, "removes", moving)
    with warehouse.comparing(tmp_path, OPTIONS) as comparison:
        staged = stage(blocks_of(CASE.export), comparison.new_list())
        with pytest.raises(LedgerError, match="another machine has moved"):
            comparison.compare(staged, base, tmp_path, OPTIONS, NO_CONDITIONS)


def test_two_moves_at_once_are_not_both_made(
    warehouse: ExternalEngine[DatabaseSession], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = made(warehouse, tmp_path)
    changes = RunChanges(2, [], [], [2])
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    apply = Tables.apply

    def meanwhile(tables: Tables, number: int) -> list[str]:
        monkeypatch.setattr(Tables, "apply", apply)
        with pytest.raises(IncompleteError):
            warehouse.fold(base, changes, generation_path(there, 2), OPTIONS)
        return apply(tables, number)

    monkeypatch.setattr(Tables, "apply", meanwhile)
    moved = warehouse.fold(base, changes, generation_path(here, 2), OPTIONS)
    warehouse.verify(moved, is_thorough=True)
    assert not list(there.iterdir())


def test_a_cohort_that_was_entered_twice_has_one_head(
    warehouse: ExternalEngine[DatabaseSession], tmp_path: Path
) -> None:
    enter = "insert into cohortsync.cohorts (cohort, generation, token) values ('c1', 0, '')"
    with warehouse.open(Interruption()) as session:
        session.execute(*TABLES.create(""), enter)
    base = made(warehouse, tmp_path)
    warehouse.verify(base, is_thorough=True)
    with warehouse.open(Interruption()) as session:
        session.execute(enter)
    moved = warehouse.fold(base, RunChanges(2, [], [], [2]), generation_path(tmp_path, 2), OPTIONS)
    warehouse.verify(moved, is_thorough=True)
    assert warehouse.latest() == 2


def test_no_table_is_left_that_stands_for_a_temporary_one(tmp_path: Path) -> None:
    connection = Connection("warehouse", URLS["bigquery"], tmp_path)
    with (
        simulated("bigquery", tmp_path / "warehouse.duckdb") as begun,
        opened(connection, SETTINGS, Interruption()) as session,
    ):
        session.new_table("asked", REJECTIONS)
        session.make_table("copied", "select uid from asked")
        assert session.rows("select uid from copied") == []
    made = [each for each in begun[0].statements if each.startswith("CREATE")]
    dropped = [each for each in begun[0].statements if each.startswith("DROP")]
    assert len(made) == len(dropped) == 2
    assert all("expiration_timestamp" in each for each in made)
    assert begun[0].statements[-1] == "CALL BQ.ABORT_SESSION()"


@pytest.mark.parametrize(
    ("dialect", "package"),
    [
        ("snowflake", "adbc_driver_snowflake"),
        ("snowflake", "sqlglot"),
        ("bigquery", "google.api_core.exceptions"),
        ("bigquery", "sqlglot"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    dialect: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("engine.planning.warehouse."):
            monkeypatch.delitem(sys.modules, name)
    with simulated(dialect, tmp_path / "warehouse.duckdb"):
        monkeypatch.setitem(sys.modules, package, None)
        connection = Connection("warehouse", URLS[dialect], tmp_path)
        with (
            pytest.raises(UsageError, match=f'plan.engine = "{dialect}"') as caught,
            opened(connection, SETTINGS, Interruption()),
        ):
            pass
    assert str(caught.value.hint) == f"pip install 'cohortsync[{dialect}]'"
