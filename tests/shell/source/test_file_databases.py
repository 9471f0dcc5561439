"""Queries on files of SQLite and DuckDB, and by SQLAlchemy: one table of cases for all."""

import builtins
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from sql_reading import (
    SORTED_TEXTS,
    TEXTS,
    blocks,
    cancelling,
    changes,
    spooled,
    spooled_changes,
    uids,
)

from engine.errors import (
    CohortSyncError,
    IncompleteError,
    SourceError,
    UsageError,
)
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection

ROWS = 20_000
KINDS = ("sqlite", "duckdb", "sql")
_NUMBERS = "with recursive t(n) as (select 1 union all select n + 1 from t where n < {}) "


def _sqlite(folder: Path) -> Connection:
    path = folder / "audience.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("create table audience (uid, n, score, code)")
        database.execute(
            f"insert into audience {_NUMBERS.format(ROWS)}select 'u' || n, n, 1.5, x'61' from t"
        )
    database.close()
    return Connection("here", f"sqlite:{path.name}", folder)


def _duckdb(folder: Path) -> Connection:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(folder / "audience.duckdb")) as database:
        database.execute(
            "create table audience as select 'u' || n as uid, n, 1.5::double as score, "
            f"'a'::blob as code from range(1, {ROWS} + 1) t(n)"
        )
    return Connection("here", "duckdb:audience.duckdb", folder)


def _alchemy(folder: Path) -> Connection:
    pytest.importorskip("sqlalchemy")
    _sqlite(folder)
    return Connection("here", f"sqlite+pysqlite:///{folder}/audience.sqlite", folder)


MAKERS: dict[str, Callable[[Path], Connection]] = {
    "sqlite": _sqlite,
    "duckdb": _duckdb,
    "sql": _alchemy,
}


@pytest.fixture(scope="module", params=KINDS)
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Connection:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def test_columns_by_type(connection: Connection, tmp_path: Path) -> None:
    for column, last in (("uid", f"u{ROWS}"), ("n", str(ROWS)), ("code", "a")):
        found = uids(connection, "select * from audience order by n -- {\n;", tmp_path, column)
        assert (len(found), found[-1]) == (ROWS, last)
    with pytest.raises(
        SourceError, match=r"score' (is double|has a float), which cannot"
    ) as caught:
        spooled(connection, "select score from audience", tmp_path)
    assert caught.value.hint is not None
    assert "CAST(score AS text)" in caught.value.hint


def test_rows_that_say_add_or_remove_come_in_their_order(
    connection: Connection, tmp_path: Path
) -> None:
    found = changes(connection, TEXTS, tmp_path)
    assert [each for each in found if isinstance(each, tuple)] == SORTED_TEXTS[:4]
    assert sorted(each for each in found if isinstance(each, str)) == sorted(
        each for each in SORTED_TEXTS if isinstance(each, str)
    )
    times = [("a", "false", "'2026-01-02 10:00'"), ("b", "true", "'2026-01-02 10:00'")]
    times.append(("c", "false", "'2026-01-02 09:59'"))
    assert changes(connection, times, tmp_path) == [("c", True), ("b", False), ("a", True)]
    add, remove = (
        spooled_changes(connection, [("a", each, "1")], tmp_path) for each in ("'add'", "'remove'")
    )
    assert add.digest != remove.digest


def test_records_are_rows_of_the_result(connection: Connection, tmp_path: Path) -> None:
    rows = "select column1 from (values ('a'), (null), (' '), ('b '), ('')) t"
    if connection.scheme == "duckdb":
        rows = rows.replace(" t", " t(column1)")
    [block] = blocks(connection, rows, tmp_path, strip=True)
    assert (block.records, block.uids.to_pylist()) == (5, ["a", "b"])
    assert [(each.record, each.count) for each in block.skipped] == [(2, 2), (5, 1)]


REFUSED = {
    "delete from audience": (
        r"query writes|is a query|has several|does not read",
        "may only read|one SELECT",
    ),
    "select uid from audience; select 1": ("several statements|does not read", "one SELECT"),
    "select uid from gone": ("query failed: .*gone", "SCHEMA.TABLE"),
    "select uid from network_timeout": ("query failed: .*network_timeout", "SCHEMA.TABLE"),
    "select uid from readonly": ("query failed: .*readonly", "SCHEMA.TABLE"),
    "select name from audience": ("query failed: .*name", "name of the column"),
    "select soundexes(uid) from audience": ("query failed: .*soundexes", "this function"),
    "selec uid from audience": ("query failed: .*selec", "correct the query"),
    "select uid, n from audience": ("uid, n", ""),
}
"""What is said of a query, and what the hint says."""


def test_a_query_that_cannot_be_read_is_one_line_with_a_hint(
    connection: Connection, tmp_path: Path
) -> None:
    for text, (said, hint) in REFUSED.items():
        with pytest.raises(CohortSyncError, match=said) as caught:
            spooled(connection, text, tmp_path)
        assert caught.value.exit_status == 2
        assert re.search(hint, caught.value.hint or ""), caught.value.hint
        assert "\n" not in caught.value.message
    assert len(uids(connection, "select uid from audience", tmp_path)) == ROWS


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_query_makes_no_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "marts").mkdir()
    (tmp_path / "spools").mkdir()
    connection = MAKERS[kind](tmp_path / "marts")
    other = tmp_path / "other"
    for text in (f"attach '{other}' as o", f"vacuum into '{other}'", f"copy audience to '{other}'"):
        with pytest.raises(SourceError) as caught:
            spooled(connection, text, tmp_path / "spools", "uid")
        assert caught.value.exit_status == 2
        if "syntax error" not in caught.value.message:
            assert caught.value.hint is not None
    assert {each.name for each in tmp_path.iterdir()} == {"marts", "spools"}
    assert list((tmp_path / "spools").iterdir()) == []


def test_a_query_ends_when_it_is_cancelled(connection: Connection, tmp_path: Path) -> None:
    if connection.scheme.startswith("sqlite+"):
        pytest.skip("SQLAlchemy has no way to cancel that all of its drivers have")
    cancellation = Cancellation()
    endless = "with recursive t(n) as (select 1 union all select n + 1 from t) select n from t"
    with cancelling(cancellation), pytest.raises(IncompleteError, match="query was ended"):
        spooled(connection, endless, tmp_path, cancellation=cancellation)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for scheme in ("sqlite", "duckdb"):
        missing = Connection("here", f"{scheme}:none.db", tmp_path)
        with pytest.raises(SourceError, match=r"none\.db: no such file$") as caught:
            spooled(missing, "select 1", tmp_path)
        assert caught.value.exit_status == 2
    (tmp_path / "other.db").write_text("no database" * 100)
    for scheme in ("sqlite", "duckdb"):
        with pytest.raises(SourceError, match=r"not a (valid )?(DuckDB )?database") as caught:
            spooled(Connection("here", f"{scheme}:other.db", tmp_path), "select * from t", tmp_path)
        assert "file in `url`" in str(caught.value.hint)
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]


def test_a_uid_in_sqlite_that_is_not_utf_8_is_one_bad_row(tmp_path: Path) -> None:
    connection = _sqlite(tmp_path)
    rows = "select * from (values ('a'), (cast(x'ff' as text)), (7), ('é'))"
    [block] = blocks(connection, rows, tmp_path)
    assert block.uids.to_pylist() == ["a", "7", "é"]
    assert [(each.record, each.reason) for each in block.skipped] == [(2, "invalid UTF-8")]


def test_a_uuid_in_duckdb_is_text(tmp_path: Path) -> None:
    found = uids(_duckdb(tmp_path), "select '00000000-0000-4000-8000-0000000000ff'::uuid", tmp_path)
    assert found == [str(UUID("00000000-0000-4000-8000-0000000000ff"))]


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql://a@b/c", "adbc_driver_postgresql", "postgres"),
        ("snowflake://a@b/c", "adbc_driver_snowflake", "snowflake"),
        ("bigquery://a/b", "adbc_driver_bigquery", "bigquery"),
        ("mysql+pymysql://a@b/c", "sqlalchemy", "sql"),
        ("duckdb:audience.duckdb", "duckdb", "duckdb"),
    ],
)
def test_a_missing_extra_is_named(
    url: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audience.duckdb").touch()
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".", maxsplit=1)[0] == package:
            raise ModuleNotFoundError(name=package)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=package) as caught:
        spooled(Connection("there", url, tmp_path), "select 1", tmp_path)
    assert caught.value.hint == f"pip install 'cohortsync[{extra}]'"


def test_a_url_that_sqlalchemy_does_not_know(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    with pytest.raises(UsageError, match="SQLAlchemy does not know") as caught:
        spooled(Connection("there", "nosuch://u:pa%2Fss@h/d", tmp_path), "select 1", tmp_path)
    assert "pa" not in str(caught.value).replace("password", "")
