"""Runs a query on a DuckDB file."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.errors import SourceError
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.driver_errors import Said, needing, translated
from engine.source.sql.result import BATCH_ROWS, Result
from engine.storage.settings import PlanningSettings

if TYPE_CHECKING:
    import duckdb  # An extra.


@contextmanager
def run(
    path: Path,
    text: str,
    said: Said,
    cancellation: Cancellation,
    plans: PlanningSettings | None = None,
) -> Iterator[Result]:
    """Run a query on a file, and yield its result.

    The file is opened for reading only, or, if this process makes `plans` there, as for those; then
    a transaction only reads.

    Raises `SourceError`, and `UsageError` if DuckDB is not installed.
    """
    with needing("duckdb", "a duckdb: connection"):
        import duckdb  # noqa: PLC0415 - an extra
    errors = (duckdb.Error, pa.ArrowException, OSError)
    with translated(said, errors, is_open=False):
        config = _CONFIG if plans is None else plan_config(path, plans)
        connection = duckdb.connect(str(path), read_only=plans is None, config=config)
    with closing(connection), cancellation.passed_to(connection.interrupt):
        with translated(said, errors, is_open=True):
            connection.execute("begin transaction read only")
            refuse_others(connection, text, said)
            reader = connection.sql(text).to_arrow_reader(BATCH_ROWS)

        def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
            while True:
                with translated(said, errors, is_open=True):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch.select(list(columns))

        yield Result(reader.schema, batches)


def refuse_others(connection: "duckdb.DuckDBPyConnection", text: str, said: Said) -> None:
    """Raise `SourceError` unless a text is one statement that reads: a COPY may write a file."""
    kinds = [each.type.name for each in connection.extract_statements(text)]
    if kinds != ["SELECT"]:
        raise SourceError(
            f"{said.name}: is {len(kinds)} statements, or one that does not read",
            hint="a query is one SELECT",
        )


def plan_config(path: Path, settings: PlanningSettings) -> dict[str, Any]:
    """Return how a process that makes plans in a file opens it, each time: DuckDB demands that."""
    return {
        "memory_limit": f"{settings.memory_megabytes}MB",
        "threads": settings.threads or os.cpu_count() or 1,
        "temp_directory": settings.spill_dir or str(path.parent),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
    }


_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",  # An SQLite file would be a download.
    "threads": 1,  # Each has buffers of its own.
}
