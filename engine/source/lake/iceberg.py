"""Reads an Iceberg table by the package `pyiceberg`, file by file, without the deleted rows.

Catalogs are those of pyiceberg's own configuration: `.pyiceberg.yaml`, or variables such as
PYICEBERG_CATALOG__LAKE__URI.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import pyarrow as pa
from pyarrow.parquet import ParquetFile
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    NoSuchIcebergTableError,
    NoSuchNamespaceError,
    NoSuchTableError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
)
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import FileFormat
from pyiceberg.table import FileScanTask, StaticTable, Table
from pyiceberg.table.snapshots import Snapshot

from engine.errors import CohortSyncError, EmptyExportError, MissingExportError, SourceError
from engine.source.formats.arrow_columns import uid_values
from engine.source.formats.parquet import parquet_rows
from engine.source.lake.table import (
    one_line,
    unavailable_table,
    unreadable_table,
    version_gone,
)
from engine.source.urls import redacted

_STATIC = ".metadata.json"
_LEAST_PARTS = 3


class OpenIcebergTable:
    """One snapshot of an Iceberg table. Implements `LakeTable`."""

    def __init__(self, table: str, snapshot: int | None, at: datetime | None) -> None:
        """Open a snapshot of `catalog.namespace.table`, or of the table of a metadata file.

        That is the one with the id `snapshot`, the current one `at` a time, or the current one.
        Raises `MissingExportError` if there is no table, `EmptyExportError` if nothing was ever
        written to it, and `SourceError` if it has no such snapshot or cannot be read.
        """
        self.identity = table
        shown = f"iceberg:{redacted(table)}"
        with _translated(shown):
            self._table = _loaded(table, shown)
            found = _snapshot(self._table, shown, snapshot, at)
            self.version = found.snapshot_id
            self.name = f"{shown}@{self.version}"
            self.written_utc_ns: int | None = found.timestamp_ms * 1_000_000
            # A snapshot has the columns of its time, but the current one those of the table today.
            is_current = found == self._table.current_snapshot()
            self._scan = self._table.scan(snapshot_id=None if is_current else self.version)
            self.schema = self._scan.projection().as_arrow()
            # Sorted, the files come in the same order each time.
            self._tasks = sorted(self._scan.plan_files(), key=lambda each: each.file.file_path)
        self.bytes = sum(each.file.file_size_in_bytes for each in self._tasks)
        self.records: int | None = sum(each.file.record_count for each in self._tasks)

    def values(self, column: str) -> Iterator[pa.Array]:
        """Read one column; see `LakeTable.values`."""
        with _translated(self.name):
            projected = self._scan.select(column).projection()
            scan = ArrowScan(self._table.metadata, self._table.io, projected, AlwaysTrue())
            field = projected.find_field(column).field_id
            for task in self._tasks:
                with closing(self._table.io.new_input(task.file.file_path).open()) as file:
                    path = _path_in(file, task, field)
                    if path is not None:
                        yield from (rows.values for rows in parquet_rows(file, path))
                if path is None:
                    yield from (uid_values(each, column) for each in scan.to_record_batches([task]))


def _path_in(file: InputStream, task: FileScanTask, field: int) -> str | None:
    """Return the path of a column in a Parquet file that can be read page by page.

    None if only pyiceberg can read it, which holds the column of the whole file in memory: there
    are deleted rows, the format is another one, or the file does not have the column by its id.
    """
    if task.delete_files or task.file.file_format != FileFormat.PARQUET:
        return None
    return _path_of(field, ParquetFile(file).schema_arrow)


def _path_of(field: int, fields: Iterable[pa.Field]) -> str | None:
    """Return the dotted path of the field with an id; None if there is none."""
    for each in fields:
        if (each.metadata or {}).get(b"PARQUET:field_id") == str(field).encode():
            return str(each.name)
        if pa.types.is_struct(each.type) and (below := _path_of(field, each.type)) is not None:
            return f"{each.name}.{below}"
    return None


def _loaded(table: str, shown: str) -> Table:
    if table.endswith(_STATIC):
        try:
            return StaticTable.from_metadata(table)
        except FileNotFoundError as error:
            raise MissingExportError(f"{shown}: there is no such file") from error
    catalog, *rest = table.split(".")
    if len(rest) + 1 < _LEAST_PARTS:
        raise SourceError(
            f"{shown}: is not the name of a table",
            hint=f"CATALOG.NAMESPACE.TABLE, or the path of a {_STATIC} file",
        )
    try:
        opened = load_catalog(catalog)
    except ValueError as error:  # Neither a file nor a variable describes it.
        name = f"PYICEBERG_CATALOG__{catalog.upper()}__URI"
        raise SourceError(
            f"{shown}: catalog {catalog!r} cannot be opened ({one_line(error)})",
            hint=f"describe it in .pyiceberg.yaml, or by variables such as {name}",
        ) from error
    return opened.load_table(tuple(rest))


def _snapshot(table: Table, shown: str, wanted: int | None, at: datetime | None) -> Snapshot:
    current = table.current_snapshot()
    if current is None:
        raise EmptyExportError(
            f"{shown}: nothing to send, nothing was ever written to the table",
            hint="check what writes the export",
        )
    if wanted is not None:
        found, lack = table.snapshot_by_id(wanted), f"has no snapshot {wanted}, or no longer"
    elif at is not None:
        found = table.snapshot_as_of_timestamp(round(at.timestamp() * 1000))
        lack = f"has no snapshot of {at.isoformat()} or before, or no longer"
    else:
        found, lack = current, ""
    if found is None:
        raise SourceError(f"{shown}: {lack}", hint=f"its current one is {current.snapshot_id}")
    return found


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Raise `SourceError` for the errors of `pyiceberg`."""
    try:
        yield
    except (NoSuchTableError, NoSuchNamespaceError, NoSuchIcebergTableError) as error:
        raise MissingExportError(
            f"{name}: there is no Iceberg table of this name",
            hint="CATALOG.NAMESPACE.TABLE; a namespace may have dots",
        ) from error
    except FileNotFoundError as error:
        raise version_gone(name) from error
    except (ServerError, ServiceUnavailableError, TooManyRequestsError) as error:
        raise unavailable_table(name, error) from error
    except CohortSyncError:
        raise
    except Exception as error:  # Each catalog and each store raises its own.
        hint = "rewrite the table's files, so that no deletes by equality are left"
        has_equality = "equality deletes" in str(error)
        raise unreadable_table(name, error, hint if has_equality else None) from error
