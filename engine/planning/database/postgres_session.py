"""A session in PostgreSQL, by ADBC: rows come and go as Arrow batches, by COPY."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any

import pyarrow as pa

from engine.planning.database.failures import Failures
from engine.planning.database.query_statements import POSTGRES, POSTGRES_OTHERWISE, Functions
from engine.planning.database.statements import CREATE_SCHEMA, columns_of
from engine.source.sql.driver_errors import needing
from engine.source.sql.query import Query
from engine.storage.settings import PlanningSettings

_SCHEMA_LOCK = 0x636F686F
"""The key of the advisory lock under which tables are made."""


@contextmanager
def postgres_session(
    url: str, settings: PlanningSettings, failures: Failures
) -> Iterator["PostgresSession"]:
    """Connect to a database; raises as `DatabaseSession`.

    Raises `UsageError` if the driver is not installed.
    """
    with needing("postgres", 'plan.engine = "postgres"'):
        import adbc_driver_postgresql.dbapi as postgres  # noqa: PLC0415 - an extra

        from engine.source.sql import adbc  # noqa: PLC0415 - an extra
    with failures.named(adbc.ERRORS, is_open=False):
        connection = postgres.connect(adbc.postgres(url).database["uri"])
    with closing(connection):
        session = PostgresSession(connection, failures, adbc.ERRORS)
        session.execute(
            # A sort or a hash in the server takes about as much as one here would.
            f"set work_mem = '{max(settings.memory_megabytes // 4, 16)}MB'",
            "set client_min_messages = warning",
            # A query of a client that was killed would run on to its end. Since PostgreSQL 14.
            "select set_config(name, '10s', false) from pg_settings "
            "where name = 'client_connection_check_interval'",
        )
        session.commit()
        yield session


class PostgresSession:
    """A connection to PostgreSQL. Fulfils `DatabaseSession`."""

    keys = " primary key"

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 - the driver ships few types
        failures: Failures,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._errors = errors
        self._is_in_transaction = False

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""
        with self._failures.named(self._errors), self._connection.cursor() as cursor:
            for each in statements:
                cursor.execute(each)
        self._end_statement()

    def new_table(self, name: str, columns: pa.Schema) -> None:
        """Make an empty temporary table."""
        self.execute(f"create temp table {name} ({columns_of(columns)})")

    def make_table(self, name: str, query: str) -> None:
        """Make a temporary table of the rows of a query."""
        self.execute(f"create temp table {name} as {query}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with self._failures.named(self._errors), self._connection.cursor() as cursor:
            cursor.execute(query)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        self._end_statement()
        return found

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the database sends it."""
        with self._failures.named(self._errors), self._connection.cursor() as cursor:
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                while (batch := next(reader, None)) is not None:
                    yield batch
        self._end_statement()

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""
        with self._failures.named(self._errors), self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append", temporary=True)
        self._end_statement()

    @cached_property
    def functions(self) -> Functions:
        """How PostgreSQL writes what the rows of a query are judged by."""
        encodings = "select pg_client_encoding(), current_setting('server_encoding')"
        is_utf8 = self.rows(encodings) == [("UTF8", "UTF8")]
        return POSTGRES if is_utf8 else POSTGRES_OTHERWISE

    def schema_of(self, query: Query) -> pa.Schema:
        """Return the columns of a query; a statement that is prepared is one statement."""
        with self._reading(query) as cursor:
            return cursor.adbc_execute_schema(query.statement)

    def fill(self, table: str, rows: str, query: Query) -> None:
        """Add the rows that a statement selects; temporary tables may be written meanwhile."""
        with self._reading(query) as cursor:
            cursor.execute(f"insert into {table} {rows}")

    @contextmanager
    def _reading(self, query: Query) -> Iterator[Any]:
        """Yield a cursor in a read-only transaction, which ends with the block."""
        with (
            self._failures.of_query(query, self._errors),
            self.transaction(),
            self._connection.cursor() as cursor,
        ):
            cursor.execute("set transaction read only")
            yield cursor

    @contextmanager
    def transaction(self, *, is_steady: bool = False) -> Iterator[None]:
        """Commit what the block does at its end, or nothing of it after an error."""
        self._is_in_transaction = True
        try:
            if is_steady:
                self.execute("set transaction isolation level repeatable read")
            yield
            self.commit()
        except BaseException:
            with self._failures.ignored(self._errors):
                self._connection.rollback()
            raise
        finally:
            self._is_in_transaction = False

    def commit(self) -> None:
        """Commit what was done."""
        with self._failures.named(self._errors):
            self._connection.commit()

    def _end_statement(self) -> None:
        """Commit a statement outside a transaction: an open one would keep old rows."""
        if not self._is_in_transaction:
            self.commit()

    @contextmanager
    def making_tables(self) -> Iterator[None]:
        """Let no other connection make tables in the block."""
        with self.transaction():
            self.rows(f"select pg_advisory_xact_lock({_SCHEMA_LOCK})")
            self.execute(CREATE_SCHEMA)
            yield

    def analyze(self, table: str) -> None:
        """Let the planner of queries know how many rows a temporary table has."""
        self.execute(f"analyze {table}")

    def cancel(self) -> None:
        """End what another thread runs."""
        with self._failures.ignored(self._errors):  # The statement may just have ended.
            self._connection.adbc_cancel()
