"""Queries on a real PostgreSQL: what they return, and what happens to those that cannot."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sql_reading import SORTED_TEXTS, TEXTS, blocks, cancelling, changes, spooled, uids

from engine.errors import CohortSyncError, IncompleteError, SourceError, SourceUnavailableError
from engine.source.block import Skipped
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from postgres_server import PASSWORD, READER, PostgresServer

ROWS = 30_000


@pytest.fixture(scope="module")
def marts(postgres: PostgresServer) -> Iterator[PostgresServer]:
    postgres.execute(
        "create table audience as select 'u' || n as uid, n, n::smallint as small, "
        "'00000000-0000-4000-8000-' || lpad(n::text, 12, '0') as text_id, "
        "('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid as id, "
        "n::numeric as amount, n::float8 as score, date '2026-11-27' as day "
        f"from generate_series(1, {ROWS}) n",
    )
    yield postgres
    postgres.execute("drop table audience")


@pytest.fixture
def connection(marts: PostgresServer, tmp_path: Path) -> Iterator[Connection]:
    """Return a reader's connection; every test leaves none open."""
    yield Connection("warehouse", marts.url_of(READER), tmp_path, lambda: PASSWORD)
    marts.await_idle()


def test_columns_by_type(connection: Connection, tmp_path: Path) -> None:
    for column, first in (("uid", "u1"), ("n", "1"), ("small", "1")):
        found = uids(connection, f"select {column} from audience order by n", tmp_path)
        assert (len(found), found[0]) == (ROWS, first)
    found = uids(connection, "select * from audience order by n; ", tmp_path, "id")
    assert found[255] == str(UUID("00000000-0000-4000-8000-000000000256"))
    assert found == uids(connection, "select text_id from audience order by n", tmp_path)


@pytest.mark.parametrize(
    ("column", "type_"), [("amount", "numeric"), ("score", "double"), ("day", r"date32\[day\]")]
)
def test_a_column_of_another_type_is_refused_with_the_cast(
    connection: Connection, tmp_path: Path, column: str, type_: str
) -> None:
    with pytest.raises(SourceError, match=f"column '{column}' is {type_}, which cannot") as caught:
        spooled(connection, f"select {column} from audience", tmp_path)
    assert caught.value.hint is not None
    assert f"CAST({column} AS text) AS {column}" in caught.value.hint
    assert caught.value.exit_status == 2


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


def test_records_are_rows_of_the_result(connection: Connection, tmp_path: Path) -> None:
    rows = "values ('a'), (null), (' '), ('b '), (''), (''), ('a')"
    [block] = blocks(connection, rows, tmp_path)
    assert block.uids.to_pylist() == ["a", "b ", "a"]
    assert block.skipped == (Skipped(2, 2, "blank"), Skipped(5, 2, "blank"))
    assert (block.records, block.first_record) == (7, 1)
    assert block.file == f"warehouse: {rows}"
    [block] = blocks(connection, rows, tmp_path, strip=True)
    assert block.uids.to_pylist() == ["a", "b", "a"]


def test_an_equal_result_has_an_equal_digest(connection: Connection, tmp_path: Path) -> None:
    text = "select uid from audience order by n"
    first, second = (spooled(connection, text, tmp_path) for _ in range(2))
    assert first == second
    assert first.spool != second.spool
    assert first.spool.stat().st_mode & 0o777 == 0o600
    other = spooled(connection, "select uid from audience order by n desc", tmp_path)
    assert other.digest != first.digest


REFUSED = {
    "delete from audience": (
        "query writes, .*cannot execute DELETE in a read-only transaction",
        "may only read",
    ),
    "with gone as (delete from audience returning uid) select uid from gone": (
        "query writes, ",
        "may only read",
    ),
    "select nextval('counter')": ("permission denied for sequence counter$", "let the owner grant"),
    "select uid from hidden.audience": ("permission denied for schema hidden$", "USAGE of their"),
    "create table copied as select uid from audience": ("query writes, ", "may only read"),
    "select uid from audience; select 1": ("has several statements", "one SELECT"),
    "select uid from audience where; select": ("syntax error at or near", "correct the query"),
    "explain select uid from audience": ("syntax error", "source preview"),
    "select uid from gone": ('query failed: relation "gone" does not exist$', "SCHEMA.TABLE"),
    'select uid from "network timeout"': ('"network timeout" does not exist$', "SCHEMA.TABLE"),
    "select uid from gone.audience": ('relation "gone.audience" does not exist$', "SCHEMA.TABLE"),
    "select name from audience": (
        'query failed: column "name" does not exist$',
        "name of the column",
    ),
    "select soundex(uid) from audience": (r"function soundex\(text\) does not", "this function"),
    "select uid, n from audience": ("uid, n", ""),
    "select uid, uid from audience": ("has 2 columns named 'uid'", ""),
    "select 1 / (n - 29000) from audience": ("query failed: division by zero$", ""),
    "select uid::int from audience": (
        r"invalid input syntax for type integer: \(a value\)$",
        "",
    ),
}
"""What is said of a query, and what the hint says."""


def test_a_query_that_cannot_be_read_is_one_line_with_a_hint(
    marts: PostgresServer, connection: Connection, tmp_path: Path
) -> None:
    marts.execute(
        "create sequence if not exists counter",
        "create schema if not exists hidden",
        "create table if not exists hidden.audience (uid text)",
        f"revoke pg_read_all_data from {READER}",
        f"grant select on audience to {READER}",
    )
    try:
        for text, (said, hint) in REFUSED.items():
            with pytest.raises(CohortSyncError, match=said) as caught:
                spooled(connection, text, tmp_path, "uid" if "uid, uid" in text else None)
            assert caught.value.exit_status == 2
            assert hint in (caught.value.hint or "")
            assert "\n" not in caught.value.message
            assert "Query was" not in caught.value.message
    finally:
        marts.execute(f"grant pg_read_all_data to {READER}")
    assert marts.execute("select count(*) from audience") == [(ROWS,)]
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_let_in_says_why(marts: PostgresServer, tmp_path: Path) -> None:
    reader, here = marts.url_of(READER), f"?host={marts.folder}"
    denied = "refuses the password or the user"
    cases = [
        (reader, "wr-ong/7%", denied, "where the password is from", 2),
        (reader, None, denied, "where the password is from", 2),
        (f"postgresql://nobody@/marts{here}", "wr-ong/7%", denied, "check `url`", 2),
        (
            marts.url_of("postgres", "gone"),
            None,
            '"gone" does not exist',
            "name of the database",
            2,
        ),
        ("postgresql://gone.invalid/marts", None, "cannot be reached", "correct the host", 75),
        ("postgresql://127.0.0.1:1/marts", None, "cannot be reached", "again", 75),
        (f"postgresql:///marts?host={tmp_path}", None, "cannot be reached", "again", 75),
        (reader, PASSWORD, "cannot be reached: too many connections", "end other connections", 75),
    ]
    marts.execute(f"alter role {READER} connection limit 0")
    try:
        for url, password, said, hint, status in cases:
            wrong = Connection("warehouse", url, tmp_path, lambda each=password: each)
            with pytest.raises(SourceError, match=said) as caught:
                spooled(wrong, "select uid from audience", tmp_path)
            assert caught.value.exit_status == status
            assert hint in str(caught.value.hint)
            assert "wr-ong" not in f"{caught.value} {caught.value.hint} {wrong!r}"
    finally:
        marts.execute(f"alter role {READER} connection limit -1")


_KILLED = """
select case when n < 29000 then uid else pg_terminate_backend(pg_backend_pid())::text end
from audience order by n
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [(_KILLED, "terminating connection"), ("select pg_sleep(60)::text", "statement timeout")],
    ids=["killed half-way", "statement timeout"],
)
def test_a_query_that_is_ended_may_be_run_again(
    marts: PostgresServer, tmp_path: Path, text: str, said: str
) -> None:
    url = f"{marts.url}&options=-c%20statement_timeout%3D300"
    with pytest.raises(SourceUnavailableError, match=f"query was ended: .*{said}") as caught:
        spooled(Connection("warehouse", url, tmp_path), text, tmp_path)
    assert caught.value.exit_status == 75
    assert list(tmp_path.iterdir()) == []
    marts.await_idle()


def test_a_query_ends_when_it_is_cancelled(connection: Connection, tmp_path: Path) -> None:
    cancellation = Cancellation()
    with cancelling(cancellation), pytest.raises(IncompleteError, match="query was ended"):
        spooled(connection, "select pg_sleep(600)::text", tmp_path, cancellation=cancellation)
    assert list(tmp_path.iterdir()) == []
