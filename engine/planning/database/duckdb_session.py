"""A session in a DuckDB file. One process at a time can open the file."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import IncompleteError
from engine.planning.database.failures import Failures
from engine.planning.database.statements import CREATE_SCHEMA, columns_of
from engine.source.sql.driver_errors import needing
from engine.storage.files import writing_in
from engine.storage.settings import PlanningSettings

_BATCH_ROWS = 65_536
_LOADED = "loaded_rows"


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
            connection = duckdb.connect(str(path), config=_config(path, settings))
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


def _config(path: Path, settings: PlanningSettings) -> dict[str, Any]:
    # All connections of a process to one file need the same settings.
    return {
        "memory_limit": f"{settings.memory_megabytes}MB",
        "threads": settings.threads or os.cpu_count() or 1,
        "temp_directory": settings.spill_dir or str(path.parent),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
    }


class DuckdbSession:
    """A connection to a DuckDB file. Fulfils `DatabaseSession`."""

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

    @contextmanager
    def transaction(self, *, is_steady: bool = False) -> Iterator[None]:
        """Commit what the block does at its end, or nothing of it after an error."""
        del is_steady  # Each transaction is.
        self.execute("begin")
        try:
            yield
            self.execute("commit")
        except BaseException:
            with self._failures.ignored(self._errors):
                self._connection.execute("rollback")
            raise

    @contextmanager
    def making_tables(self) -> Iterator[None]:
        """Make all or none: the file belongs to this process."""
        with self.transaction():
            self.execute(CREATE_SCHEMA)
            yield

    def analyze(self, table: str) -> None:
        """Do nothing: DuckDB knows."""

    def cancel(self) -> None:
        """End what another thread runs."""
        self._connection.interrupt()
