"""A database that evaluates a query finds what reading its rows here does, row by row."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from comparison_cases import OPTIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_snapshot import SETTINGS, snapshot_of

from engine.errors import CohortSyncError, EmptyExportError, IncompleteError, SourceError
from engine.payload.batch import RowCounter
from engine.planning.conditions import NO_CONDITIONS
from engine.planning.database.comparison import DatabaseComparison
from engine.planning.database.engine import ExternalEngine
from engine.planning.database.query_statements import POSTGRES_OTHERWISE, WHITE_SPACE
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
from engine.planning.database.tables import TableGenerations
from engine.planning.database.uid_patterns import common_pattern
from engine.planning.local_engine import LOCAL
from engine.planning.profile import Inspection
from engine.planning.query_export import QueryExport
from engine.planning.staging import stage
from engine.runs.engines import opened
from engine.snapshot.export_places import ExportPlaces, open_places
from engine.snapshot.records import Staged, UidState
from engine.source.block import Block, Skipped
from engine.source.options import ReadingOptions
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query
from engine.source.sql.reading import query_columns
from engine.source.sql.running import run_query
from engine.source.sql.unspooled import UnspooledResult
from engine.storage.computation import Interruption

if TYPE_CHECKING:
    from postgres_server import PostgresServer

_folders = count()


@pytest.fixture(params=["duckdb", "postgres"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Connection:
    """Return a connection to a database."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return Connection("marts", server.url, tmp_path)
    duckdb = pytest.importorskip("duckdb")
    duckdb.connect(str(tmp_path / "marts.duckdb")).close()
    return Connection("marts", "duckdb:marts.duckdb", tmp_path)


@dataclass
class Found:
    """What is known of the rows of an export after it was staged and compared."""

    staged: tuple[int, ...]
    skipped: list[Skipped]
    profile: dict[str, int]
    misfits: int
    changes: list[Any]


KNOWN = dict.fromkeys(("007", "é", "gone", "-5"), (UidState.IN, 1))


@dataclass
class Asked:
    """A query, and how its rows are read."""

    connection: Connection
    query: Query
    options: ReadingOptions = field(default_factory=ReadingOptions)
    pattern: str | None = None

    @contextmanager
    def comparison(self, stop: Interruption) -> Iterator[tuple[DatabaseComparison, Path]]:
        @contextmanager
        def session(interruption: Interruption) -> Iterator[DatabaseSession]:
            with opened(self.connection, SETTINGS, interruption) as found:
                yield found

        generations = TableGenerations(Tables("c"), 1)
        engine = ExternalEngine(session, "marts", "the database", generations)
        folder = self.connection.folder / f"{next(_folders)}"
        folder.mkdir()
        with engine.comparing(folder, replace(OPTIONS, interruption=stop)) as comparison:
            yield comparison, folder

    def evaluated(self, stop: Interruption | None = None) -> Found:
        """Let the database evaluate it."""
        skipped: list[Skipped] = []
        inspection, counts = Inspection(self.pattern), RowCounter()
        export = QueryExport(self.query, self.options, inspection, counts, skipped.extend)
        with self.comparison(Interruption()) as (comparison, folder):
            staged = comparison.stage_query(export, stop or Interruption())
            with open_places(folder) as places:
                places.add_records(self.query.name)
            return self._found(comparison, staged, folder, skipped, inspection)

    def read(self) -> Found:
        """Read its rows here."""
        skipped: list[Skipped] = []
        inspection = Inspection(self.pattern)
        folder = self.connection.folder / f"{next(_folders)}"
        folder.mkdir()
        with LOCAL.comparing(folder, OPTIONS) as comparison, open_places(folder) as places:
            watching = (
                lambda block: skipped.extend(block.skipped),
                lambda block: inspection.look(block.uids),
                places.add,
            )
            staged = stage(self._blocks(), comparison.new_list(), observe=watching)
        with LOCAL.comparing(folder, OPTIONS) as comparison:
            staged = stage(self._blocks(), comparison.new_list())
            return self._found(comparison, staged, folder, skipped, inspection)

    def _blocks(self) -> Iterator[Block]:
        try:
            yield from UnspooledResult(self.connection, self.query, self.options).blocks()
        except EmptyExportError:
            return

    def _found(
        self,
        comparison: Any,  # noqa: ANN401 - each engine has its own
        staged: Staged,
        folder: Path,
        skipped: list[Skipped],
        inspection: Inspection,
    ) -> Found:
        base = snapshot_of(KNOWN, folder / "base.parquet", is_sorted=True)
        found = comparison.compare(staged, base, folder, OPTIONS, NO_CONDITIONS)
        assert pq.read_metadata(found.adds.path).num_rows == found.adds.planned
        adds = pq.read_table(found.adds.path)["uid"].to_pylist()
        places = ExportPlaces(folder)
        return Found(
            (staged.rows_read, staged.blank, staged.invalid, staged.uids, staged.uid_bytes),
            skipped,
            inspection.profile.document(),
            inspection.misfits,
            [
                {uid: places.find(number) for number, uid in enumerate(adds)},
                sorted(pq.read_table(found.removes.path)["uid"].to_pylist()),
                (found.unchanged, found.duplicate),
            ],
        )


def constant(value: bytes, kind: str, *, is_duckdb: bool) -> str:
    """Return an expression of a value: its bytes, or the text of which they are the UTF-8."""
    digits = f"unhex('{value.hex()}')" if is_duckdb else f"'\\x{value.hex()}'::bytea"
    if kind == "bytes":
        return digits
    return f"decode({digits})" if is_duckdb else f"convert_from({digits}, 'UTF8')"


TEXTS = [
    *("007", "7", "1e5", "NULL", "nan", 'a"b', "a\\b", "a'b", "é", "😀", "A", "a", "a ", " a"),
    *("", " ", "\t", "\u00a0", "\u3000", "\u00a0x\u2028", "\u200b", "\ufeff", "a\nb", "\x7f"),
    *("a@b.c", "ab-12", "0", "gone", "%", "x" * 300, "\u1680 \x85", "\x1c"),
]
BYTES = [b"\xff", b"a\xffb", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2", b"\0"]
BYTES += [
    b"a\0 ",
    b"\xe2\x80",
    b"\xf0\x9f\x98\x80",
    b"\xe0\xa0\x80",
    b"\x20\xe3\x80\x80",
    b"\x12\x0d",
]
PATTERNS = [None, "[0-9]+", r"\d{1,3}|\w+@b\.c", "^[a-z0-9-]+$", "(a|A)?x{2,255}", "%", "a[.]?b"]

values = {
    "text": st.none() | st.sampled_from([each.encode() for each in TEXTS]),
    "bytes": st.none() | st.sampled_from([*BYTES, *(each.encode() for each in TEXTS)]),
}
cases = st.sampled_from(sorted(values)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(values[kind], max_size=50))
)
FEW = settings(
    max_examples=max(settings().max_examples // 5, 4),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(
    case=cases,
    strip=st.booleans(),
    pattern=st.sampled_from(PATTERNS),
    whose=st.lists(st.sampled_from(["vip", "it's", "é"]), min_size=1),
    is_shared=st.booleans(),
)
def test_the_same_is_found_as_in_rows_that_are_read_here(  # noqa: PLR0917, PLR0913 - of one case
    connection: Connection,
    case: tuple[str, Sequence[bytes | None]],
    strip: bool,  # noqa: FBT001 - drawn
    pattern: str | None,
    whose: Sequence[str],
    is_shared: bool,  # noqa: FBT001 - drawn
) -> None:
    kind, column = case
    is_duckdb = connection.path is not None
    if is_duckdb and kind == "text":
        column = [*column, b"a\0 ", b"\0"]  # PostgreSQL's text has no such character.
    rows = [
        f"({number}, {_of(value, kind, is_duckdb=is_duckdb)}, "
        f"{constant(whose[number % len(whose)].encode(), 'text', is_duckdb=is_duckdb)})"
        for number, value in enumerate([*column, None])
    ]
    text = f'select u as "Uid", w from (values {", ".join(rows)}) t(n, u, w) order by n -- ends; '
    query = Query("marts", text)
    if is_shared:
        query = replace(query, cohort_column="w", value=whose[0])
    asked = Asked(connection, query, ReadingOptions(column="Uid", strip=strip), pattern)
    assert asked.evaluated() == asked.read()


def _of(value: bytes | None, kind: str, *, is_duckdb: bool) -> str:
    if value is None:
        return "null::blob" if is_duckdb and kind == "bytes" else "null"
    return constant(value, kind, is_duckdb=is_duckdb)


TYPES = {
    "postgres": (
        "select 'ab'::char(5) as padded, 'ab'::varchar as text, 'ab'::name as name, 'ab'::mood as "
        "mood, -7::smallint as small, 9223372036854775807 as big, "
        "'AAAAAAAA-0000-4000-8000-000000000001'::uuid as id, 1.5::numeric as amount, null as none, "
        "1::float8 as score, date '2026-11-27' as day, true as flag, '{}'::json as document"
    ),
    "duckdb": (
        "select 'ab'::mood as mood, 1::hugeint as huge, -7::tinyint as small, 1.5::decimal(4, 1) "
        "as amount, 12::decimal(18, 0) as whole, null as none, 1::double as score, true as flag, "
        "'AAAAAAAA-0000-4000-8000-000000000001'::uuid as id, date '2026-11-27' as day, "
        "{'_id': {'it''s': 'x'}} as \"User\", {'_id': 1} as \"user\""
    ),
}
PATHS = ["User._id.it's", "User._id", "absent"]


def test_each_type_is_taken_or_refused_as_it_is_here(connection: Connection) -> None:
    execute(connection, "create type mood as enum ('ab')")
    query = Query("marts", TYPES["postgres" if connection.path is None else "duckdb"])
    schema = schema_here(connection, query)
    with opened(connection, SETTINGS, Interruption()) as session:
        assert session.schema_of(query) == schema.remove_metadata()
    taken = [each for each in (*schema.names, *PATHS) if holds_uids(query, schema, each)]
    assert {"mood", "small", "none", "id"} < set(taken)
    for column in taken:
        asked = Asked(connection, query, ReadingOptions(column))
        assert asked.evaluated() == asked.read(), column
    execute(connection, "drop type mood")


def schema_here(connection: Connection, query: Query) -> pa.Schema:
    with run_query(connection, query, Cancellation()) as result:
        return result.schema


def holds_uids(query: Query, schema: pa.Schema, column: str) -> bool:
    try:
        query_columns(query, schema, column)
    except SourceError:
        return False
    return True


def execute(connection: Connection, statement: str) -> None:
    """Run a statement that the query could not."""
    with opened(connection, SETTINGS, Interruption()) as session:
        session.execute(statement)


MISTAKES = [
    "select u from gone",
    "select v from (values ('a')) t(u)",
    "select u frm t",
    "select 1; select 2",
    "select cast(u as int) from (values ('a')) t(u)",
    "select 'a') asked(u); create table made (u text); select 1 from (select 1",
    "create table made as select 1",
    "with gone as (delete from kept_rows returning u) select u from gone",
    "select nextval('own_counter')",
]


def test_a_query_that_fails_or_writes_is_named_and_changes_nothing(connection: Connection) -> None:
    execute(connection, "create table kept_rows as select 'a' as u")
    execute(connection, "create sequence own_counter")
    for text in MISTAKES:
        with pytest.raises(CohortSyncError) as caught:
            Asked(connection, Query("marts", text)).evaluated()
        assert caught.value.exit_status == 2
        assert caught.value.message.startswith(f"{Query('marts', text).name}: ")
        assert "\n" not in caught.value.message
        if "counter" in text or ("delete" in text and connection.path is None):
            assert "the query writes" in caught.value.message
    assert Asked(connection, Query("marts", "table kept_rows")).evaluated().staged == (
        1,
        0,
        0,
        1,
        1,
    )
    with pytest.raises(SourceError):
        Asked(connection, Query("marts", "table made")).evaluated()
    execute(connection, "drop table kept_rows")
    execute(connection, "drop sequence own_counter")


def test_a_stop_ends_the_query(connection: Connection) -> None:
    stopped = Interruption()
    series = "range(4000000000) t(n)" if connection.path else "generate_series(1, 4000000000) n"
    timer = threading.Timer(0.2, stopped.trip, [IncompleteError("stopped")])
    timer.start()
    asked = Asked(connection, Query("marts", f"select n::text from {series} where n * n % 7 = 3"))
    with pytest.raises(IncompleteError, match="stopped"):
        asked.evaluated(stopped)
    timer.join()


def test_a_query_that_the_server_ends_may_be_run_again(
    postgres: "PostgresServer", tmp_path: Path
) -> None:
    url = f"{postgres.url}&options=-c%20statement_timeout%3D300"
    asked = Asked(Connection("marts", url, tmp_path), Query("marts", "select pg_sleep(60)::text"))
    with pytest.raises(CohortSyncError, match=r"query was ended: .*statement timeout") as caught:
        asked.evaluated()
    assert caught.value.exit_status == 75


@pytest.mark.slow
def test_a_database_in_another_encoding(postgres: "PostgresServer", tmp_path: Path) -> None:
    postgres.execute(
        "create database old encoding 'LATIN1' locale 'C' template template0", database="postgres"
    )
    connection = Connection("marts", postgres.url_of("postgres", "old"), tmp_path)
    text = "select chr(n) || m as uid from generate_series(1, 255) n, (values (''), ('x ')) t(m)"
    for strip in (False, True):
        asked = Asked(connection, Query("marts", text), ReadingOptions(strip=strip), "[a-z]x? ?")
        found = asked.evaluated()
        assert found == asked.read()
        assert found.staged[2] > 0
    assert POSTGRES_OTHERWISE.is_unicode is False


PORTABLE = {
    "[0-9a-f]{24}": "[0-9a-f]{24}",
    r"\d+\.\w+": "[0-9]+[.][0-9A-Za-z_]+",
    "(?:a|b-)*c{1,3}?": "(?:a|b-)*c{1,3}?",
    "^U-[A-Z_-]+$": "^U-[A-Z_-]+$",
}
NOT_PORTABLE = [
    "a.c",
    "[^a]",
    "(?i)a",
    r"\pL",
    "é",
    "a{1,300}",
    "[a-c-e]",
    r"\s",
    "'",
    r"[\d]",
    "x**",
]


def test_patterns_that_mean_the_same_everywhere() -> None:
    assert {each: common_pattern(each) for each in PORTABLE} == PORTABLE
    assert [common_pattern(each) for each in NOT_PORTABLE] == [None] * len(NOT_PORTABLE)


def test_white_space_is_what_it_is_here() -> None:
    characters = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    is_space = pc.utf8_is_space(pa.array(characters))
    assert "".join(pa.array(characters).filter(is_space).to_pylist()) == WHITE_SPACE
