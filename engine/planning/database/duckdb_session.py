"""A session in a DuckDB file. One process at a time can open the file."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import IncompleteError
from engine.planning.database.failures import Failures
from engine.planning.database.query_statements import DUCKDB
from engine.planning.database.statements import CREATE_SCHEMA, columns_of
from engine.source.sql.driver_errors import Said, needing
from engine.source.sql.duckdb_file import plan_config, refuse_others
from engine.source.sql.query import Query
from engine.storage.files import writing_in
from engine.storage.settings import PlanningSettings

_BATCH_ROWS = 65_536
_LOADED = "loaded_rows"
_CHANGING = threading.Lock()
"""Held by the transaction that may change a file: DuckDB refuses the second of two cohorts that
make their tables at the same time. A steady one reads, and writes temporary tables only."""


@contextmanager
def duckdb_session(
    path: Path, settings: PlanningSettings, failures: Failures
) -> Iterator["DuckdbSession"]:
    """Open a file, which is made if there is none; raises as `DatabaseSession`.

    Raises `UsageError` if DuckDB is not installed.
    """
    with needing("duckdb", 'plan.engine = "duckdb"'):
        import duckdb  # noqa: PLC0415 - an extra
    is_new = not path.exists()
    with failures.named((duckdb.Error,), is_open=False):
        try:
            connection = duckdb.connect(str(path), config=plan_config(path, settings))
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise
            raise IncompleteError(
                f"{failures.name}: another process has opened {path}",
                hint="run the same command again once it has ended",
            ) from error
    with closing(connection):
        if is_new:
            with writing_in(path.parent):
                path.chmod(0o600)
        yield DuckdbSession(connection, failures, (duckdb.Error, pa.ArrowException, MemoryError))


class DuckdbSession:
    """A connection to a DuckDB file. Fulfils `DatabaseSession`."""

    functions = DUCKDB
    keys = ""
    """None: DuckDB joins by hash, and an index of all uids would not fit into memory."""

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 - the driver ships few types
        failures: Failures,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._errors = errors

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""
        with self._failures.named(self._errors):
            for each in statements:
                self._connection.execute(each)

    def new_table(self, name: str, columns: pa.Schema) -> None:
        """Make an empty temporary table."""
        self.execute(f"create temp table {name} ({columns_of(columns)})")

    def make_table(self, name: str, query: str) -> None:
        """Make a temporary table of the rows of a query."""
        self.execute(f"create temp table {name} as {query}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with self._failures.named(self._errors):
            found: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
            return found

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the database sends it."""
        with self._failures.named(self._errors):
            reader = self._connection.sql(query).to_arrow_reader(_BATCH_ROWS)
        while True:
            with self._failures.named(self._errors):
                batch = next(reader, None)
            if batch is None:
                return
            yield batch

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""
        with self._failures.named(self._errors):
            self._connection.register(_LOADED, rows)
            names = ", ".join(rows.column_names)
            self._connection.execute(
                f"insert into {table} ({names}) select {names} from {_LOADED}"  # noqa: S608 - ours
            )
            self._connection.unregister(_LOADED)

    def schema_of(self, query: Query) -> pa.Schema:
        """Return the columns of a query."""
        with self._reading(query) as said:
            refuse_others(self._connection, query.statement, said)
            found = self._connection.sql(query.statement)
            fields = found.limit(0).to_arrow_reader(_BATCH_ROWS).schema
            # The limit renames a column whose name differs from another's in case only.
            return pa.schema(map(pa.Field.with_name, fields, found.columns))

    def fill(self, table: str, rows: str, query: Query) -> None:
        """Add the rows that a statement selects; temporary tables may be written meanwhile."""
        with self._reading(query):
            self._connection.execute(f"insert into {table} {rows}")

    @contextmanager
    def _reading(self, query: Query) -> Iterator[Said]:
        """Let a query run in a read-only transaction, which ends with the block."""
        with (
            self._failures.of_query(query, self._errors) as said,
            self._transaction("begin transaction read only"),
        ):
            yield said

    @contextmanager
    def transaction(self, *, is_steady: bool = False) -> Iterator[None]:
        """Commit what the block does at its end, or nothing of it after an error."""
        with nullcontext() if is_steady else _CHANGING, self._transaction("begin"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self.execute(begin)
        try:
            yield
            self.execute("commit")
        except BaseException:
            with self._failures.ignored(self._errors):
                self._connection.execute("rollback")
            raise

    @contextmanager
    def making_tables(self) -> Iterator[None]:
        """Make all or none: of this process, one transaction changes the file."""
        with self.transaction():
            self.execute(CREATE_SCHEMA)
            yield

    def analyze(self, table: str) -> None:
        """Do nothing: DuckDB knows."""

    def cancel(self) -> None:
        """End what another thread runs."""
        self._connection.interrupt()
