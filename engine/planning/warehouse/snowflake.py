"""A session in Snowflake, by ADBC: rows come as Arrow batches, and go as Parquet files."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.planning.database.failures import Failures
from engine.planning.database.statements import SCHEMA
from engine.source.sql.driver_errors import needing

if TYPE_CHECKING:  # Loaded only with sqlglot.
    from engine.planning.warehouse.dialects import Dialect
    from engine.planning.warehouse.session import WarehouseSession

_NAME = 'plan.engine = "snowflake"'
_SETTINGS = (
    # A host that is gone in a transaction would keep its lock of the head for four hours, and
    # another would wait for it for twelve.
    "ALTER SESSION SET ABORT_DETACHED_QUERY = TRUE",
    "ALTER SESSION SET LOCK_TIMEOUT = 300",
)
_INTEGERS = {"adbc.snowflake.sql.client_option.use_high_precision": "disabled"}
"""Whole numbers come as int64, not as decimals."""


@contextmanager
def snowflake_session(url: str, failures: Failures) -> Iterator["WarehouseSession"]:
    """Connect to a database; raises as `DatabaseSession`.

    Raises `UsageError` if the driver or sqlglot is not installed.
    """
    with needing("snowflake", _NAME):
        import adbc_driver_snowflake.dbapi as snowflake  # noqa: PLC0415 - an extra

        from engine.planning.warehouse.session import WarehouseSession  # noqa: PLC0415 - an extra
        from engine.source.sql import adbc  # noqa: PLC0415 - an extra
    given = adbc.snowflake(url)
    with failures.named(adbc.ERRORS, is_open=False):
        connection = snowflake.connect(
            db_kwargs={**given.database, **_INTEGERS},
            autocommit=True,  # Transactions are begun and ended by statements.
        )
    with closing(connection):
        driver = SnowflakeDriver(connection, given.statement, adbc.ERRORS)
        with failures.named(adbc.ERRORS, is_open=False):
            driver.open()
        yield WarehouseSession(driver, failures)


class SnowflakeDriver:
    """A connection to Snowflake, in the schema `SCHEMA`. Fulfils `Driver`."""

    dialect: "Dialect" = "snowflake"
    has_temporary_tables = True

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 - the driver ships few types
        options: Mapping[str, str],
        errors: tuple[type[Exception], ...],
    ) -> None:
        """`options` are those of statements."""
        self._connection = connection
        self._options = options
        self.errors = errors
        self._running: Any = None

    def open(self) -> None:
        """Use the schema, which is made if there is none: temporary tables are in it, too."""
        for each in _SETTINGS:
            self.run(each)
        query = f"SELECT 1 FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = '{SCHEMA}'"  # noqa: S608 - ours
        if not self.rows(query):
            self.run(f'CREATE SCHEMA IF NOT EXISTS "{SCHEMA}"')
        self.run(f'USE SCHEMA "{SCHEMA}"')

    def run(self, statement: str) -> None:
        """Run a statement that returns nothing."""
        with self._cursor() as cursor:
            cursor.execute(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with self._cursor() as cursor:
            cursor.execute(query)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as Snowflake sends it."""
        with self._cursor() as cursor:
            cursor.adbc_statement.set_options(**self._options)
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                yield from reader

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, as Parquet files of a stage."""
        with self._cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append")

    def cancel(self) -> None:
        """End what another thread runs."""
        if (running := self._running) is not None:
            running.adbc_cancel()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        with self._connection.cursor() as cursor:
            self._running = cursor
            try:
                yield cursor
            finally:
                self._running = None
