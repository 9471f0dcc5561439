"""A database that evaluates a query finds what reading its rows here does, row by row."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from comparison_cases import OPTIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_snapshot import SETTINGS, snapshot_of

from engine.errors import CohortSyncError, EmptyExportError, IncompleteError, SourceError
from engine.payload.batch import RowCounter
from engine.planning.conditions import NO_CONDITIONS
from engine.planning.database.comparison import DatabaseComparison
from engine.planning.database.engine import DatabaseEngine
from engine.planning.database.query_statements import POSTGRES_OTHERWISE, WHITE_SPACE
from engine.planning.database.session import DatabaseSession
from engine.planning.database.statements import Tables
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
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query
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


KNOWN = {uid: (UidState.IN, 1) for uid in ("007", "é", "gone", "-5")}


@dataclass
class Asked:
    """A query, and how its rows are read."""

    connection: Connection
    query: Query
    options: ReadingOptions = ReadingOptions()
    pattern: str | None = None

    @contextmanager
    def comparison(self, stop: Interruption) -> Iterator[tuple[DatabaseComparison, Path]]:
        @contextmanager
        def session(interruption: Interruption) -> Iterator[DatabaseSession]:
            with opened(self.connection, SETTINGS, interruption) as found:
                yield found

        engine = DatabaseEngine(session, "marts", Tables("c"), 1)
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
        assert pa.parquet.read_metadata(found.adds.path).num_rows == found.adds.planned
        adds = pa.parquet.read_table(found.adds.path)["uid"].to_pylist()
        places = ExportPlaces(folder)
        return Found(
            (staged.rows_read, staged.blank, staged.invalid, staged.uids, staged.uid_bytes),
            skipped,
            inspection.profile.document(),
            inspection.misfits,
            [
                {uid: places.find(number) for number, uid in enumerate(adds)},
                sorted(pa.parquet.read_table(found.removes.path)["uid"].to_pylist()),
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
BYTES = [b"\xff", b"a\xffb", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2", b"\0", b"a\0 "]
BYTES += [b"\xe2\x80", b"\xf0\x9f\x98\x80", b"\xe0\xa0\x80", b"\x20\xe3\x80\x80", b"\x12\x0d"]
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
