"""Runs a query on a DuckDB file."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.errors import SourceError
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.driver_errors import Said, needing, translated
from engine.source.sql.result import BATCH_ROWS, Result

if TYPE_CHECKING:
    import duckdb  # An extra.


@contextmanager
def run(path: Path, text: str, said: Said, cancellation: Cancellation) -> Iterator[Result]:
    """Run a query on a file that is opened for reading only, and yield its result.

    Raises `SourceError`, and `UsageError` if DuckDB is not installed.
    """
    with needing("duckdb", "a duckdb: connection"):
        import duckdb  # noqa: PLC0415 - an extra
    errors = (duckdb.Error, pa.ArrowException, OSError)
    with translated(said, errors, is_open=False):
        connection = duckdb.connect(str(path), read_only=True, config=_CONFIG)
    with closing(connection), cancellation.passed_to(connection.interrupt):
        with translated(said, errors, is_open=True):
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


_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",  # An SQLite file would be a download.
    "threads": 1,  # Each has buffers of its own.
}
