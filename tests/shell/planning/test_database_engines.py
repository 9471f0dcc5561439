"""A database compares and moves a snapshot as this machine does, uid by uid."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from comparison_cases import OPTIONS, THIS_RUN, Case, blocks_of, cases, known_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_snapshot import SETTINGS, snapshot_of

from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.database.duckdb_session import duckdb_session
from engine.planning.database.engine import DatabaseEngine
from engine.planning.database.failures import Failures
from engine.planning.database.postgres_session import postgres_session
from engine.planning.database.session import Session
from engine.planning.database.statements import Tables
from engine.planning.local_engine import LOCAL
from engine.planning.staging import stage
from engine.runs.ports import PlanEngine
from engine.snapshot.fold import RunChanges
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Comparison, PlannedOperation, Snapshot
from engine.source.sql.driver_errors import Said
from engine.storage.computation import Interruption
from engine.storage.paths import generation_path

if TYPE_CHECKING:
    from postgres_server import PostgresServer

Open = Callable[[Interruption], AbstractContextManager[Session]]
_names = count()


@pytest.fixture(params=["duckdb", "postgres"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens a session in a database of the test's own."""
    server: PostgresServer | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
    else:
        pytest.importorskip("duckdb")

    @contextmanager
    def session(interruption: Interruption) -> Iterator[Session]:
        failures = Failures("the database", Said("the database", ()), interruption)
        with ExitStack() as opened:
            if server is not None:
                found: Session = opened.enter_context(
                    postgres_session(server.url, SETTINGS, failures)
                )
            else:
                path = tmp_path / "plans.duckdb"
                found = opened.enter_context(duckdb_session(path, SETTINGS, failures))
            opened.enter_context(interruption.calling(found.cancel))
            yield found

    return session


def engine_in(opening: Open, name: str | None = None, kept: int = 3) -> DatabaseEngine:
    return DatabaseEngine(opening, "warehouse", Tables(name or f"c{next(_names)}"), kept)


def made(engine: PlanEngine, case: Case, folder: Path, number: int = 1) -> Snapshot:
    """Make a generation of what was acknowledged."""
    return engine.make(
        lambda path, _: snapshot_of(case.known, path, is_sorted=True),
        generation_path(folder, number),
        OPTIONS,
    )


def compared(engine: PlanEngine, case: Case, base: Snapshot | None, folder: Path) -> Comparison:
    with engine.comparing(folder, OPTIONS) as comparison:
        staged = stage(blocks_of(case.export), comparison.new_list())
        excluded = None
        if case.excluded is not None:
            again = blocks_of(sorted(case.excluded) * 2)
            excluded = stage(again, comparison.new_list())
        return comparison.compare(staged, base, folder, OPTIONS, case.bearing(excluded))


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
    opening: Open, case: Case, data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        engines: list[PlanEngine] = [LOCAL, engine_in(opening)]
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
                assert {uid: engine.look_up(base.path, uid) for uid in sorted(rows[0])[:3]} == {
                    uid: rows[0][uid] for uid in sorted(rows[0])[:3]
                }
            export = data.draw(st.permutations(case.export))[: len(case.export) // 2]
            case = Case(export, {}, case.recent, case.rejected, case.waiting, case.resend)


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
