"""Runs a query by a driver of ADBC: PostgreSQL, Snowflake and BigQuery.

The rows come as Arrow batches while the server sends them: PostgreSQL's by COPY.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_manager import dbapi

from engine.source.sql.cancellation import Cancellation
from engine.source.sql.driver_errors import Said, needing, translated
from engine.source.sql.result import Result

ERRORS = (adbc_driver_manager.Error, pa.ArrowException, OSError)
_BATCH_BYTES = 1 << 21
"""The size of a batch that PostgreSQL's driver is asked for; its default is 16 MB."""
_CONNECT = {
    "connect_timeout": "30",
    "tcp_user_timeout": "60000",  # ms: else a server that is gone is waited for a quarter hour.
    "application_name": "cohortsync",
}


@dataclass(frozen=True, slots=True)
class Driver:
    """How one driver is connected, and what a statement of it is told."""

    extra: str
    """The extra that installs it."""
    database: Mapping[str, str]
    statement: Mapping[str, str] = field(default_factory=dict)
    begin: str | None = None
    """What makes the transaction read-only; None if the database has no such transactions."""


def postgres(url: str) -> Driver:
    """Return how PostgreSQL is read at a URL of libpq."""
    given = {name for name, _ in parse_qsl(urlsplit(url).query)}
    more = "&".join(f"{name}={value}" for name, value in _CONNECT.items() if name not in given)
    return Driver(
        "postgres",
        {"uri": f"{url}{'&' if '?' in url else '?'}{more}" if more else url},
        {"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)},
        "SET TRANSACTION READ ONLY",
    )


def snowflake(url: str) -> Driver:
    """Return how Snowflake is read; few results wait, and few are fetched at once."""
    return Driver(
        "snowflake",
        {"uri": url.partition("://")[2]},
        {"adbc.rpc.result_queue_size": "4", "adbc.snowflake.rpc.prefetch_concurrency": "2"},
    )


def bigquery(url: str) -> Driver:
    """Return how BigQuery is read: bigquery://PROJECT/DATASET?location=EU&credentials_file=PATH."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    database = {"adbc.bigquery.sql.project_id": parts.hostname or ""}
    if dataset := parts.path.strip("/"):
        database["adbc.bigquery.sql.dataset_id"] = dataset
    if location := given.get("location"):
        database["adbc.bigquery.sql.location"] = location
    if path := given.get("credentials_file"):
        database["adbc.bigquery.sql.auth_type"] = _BIGQUERY_FILE
        database["adbc.bigquery.sql.auth_credentials"] = path
    return Driver("bigquery", database, {"adbc.bigquery.sql.query.result_buffer_size": "4"})


_BIGQUERY_FILE = "adbc.bigquery.sql.auth_type.json_credential_file"


@contextmanager
def run(driver: Driver, text: str, said: Said, cancellation: Cancellation) -> Iterator[Result]:
    """Run a query, and yield its result; the connection is closed when the block ends.

    Raises `SourceError`, and `UsageError` if the driver is not installed.
    """
    with ExitStack() as opened:
        with translated(said, ERRORS, is_open=False):
            connection = opened.enter_context(closing(_connected(driver)))
        cursor = opened.enter_context(_closing_cursor(connection))
        opened.enter_context(cancellation.passed_to(cursor.adbc_cancel))
        with translated(said, ERRORS, is_open=True):
            if driver.begin is not None:
                cursor.execute(driver.begin)
            cursor.adbc_statement.set_options(**driver.statement)
            cursor.execute(f"{text}\n")  # A comment may end it, and COPY puts it in parentheses.
            reader = opened.enter_context(cursor.fetch_record_batch())

        def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
            while True:
                with translated(said, ERRORS, is_open=True):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch.select(list(columns))

        yield Result(reader.schema, batches)


def _connected(driver: Driver) -> Any:  # noqa: ANN401 - the drivers ship few types
    match driver.extra:
        case "postgres":
            with needing("postgres", "a postgresql:// connection"):
                import adbc_driver_postgresql.dbapi as module  # noqa: PLC0415 - an extra
        case "snowflake":
            with needing("snowflake", "a snowflake:// connection"):
                import adbc_driver_snowflake.dbapi as module  # noqa: PLC0415 - an extra
        case _:
            with needing("bigquery", "a bigquery:// connection"):
                import adbc_driver_bigquery.dbapi as module  # noqa: PLC0415 - an extra
    if driver.extra == "postgres":
        return module.connect(driver.database["uri"])
    return module.connect(db_kwargs=dict(driver.database))


@contextmanager
def _closing_cursor(connection: dbapi.Connection) -> Iterator[Any]:
    """Yield a cursor; however the query ends, it is closed and its transaction rolled back."""
    cursor = connection.cursor()
    try:
        yield cursor
    finally:
        with suppress(*ERRORS):  # The connection may be lost.
            cursor.close()
        with suppress(*ERRORS):
            connection.rollback()
