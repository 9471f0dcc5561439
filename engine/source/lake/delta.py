"""Reads a Delta table by the package `deltalake`, which applies deletion vectors and names."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from engine.errors import MissingExportError, SourceError, UsageError
from engine.source.formats.arrow_columns import uid_values
from engine.source.lake.table import one_line, unreadable_table, version_gone
from engine.source.urls import is_url, redacted

_SESSION = {
    # With one partition the rows come file by file, in the order of the table's log.
    "datafusion.execution.target_partitions": "1",
    "datafusion.execution.batch_size": "8192",
}
_ENVIRONMENT = "credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_REGION"
_ERRORS = (DeltaError, pa.ArrowException, OSError)
_LARGE_VERSION = 1_000_000
"""`deltalake` takes a time that grows with the number to find that there is no such version."""
_PANIC = "PanicException"
"""The name of what Rust's panics become, which no module of `deltalake` has."""


class OpenDeltaTable:
    """One version of a Delta table. Implements `LakeTable`."""

    def __init__(self, path: str, version: int | None, at: datetime | None) -> None:
        """Open a version of the table in a folder or at a URL: `version`, the one `at`, the latest.

        Raises `MissingExportError` if there is no table, and `SourceError` if it has no such
        version or cannot be read.
        """
        self.identity = path if is_url(path) else str(Path(path).expanduser().absolute())
        shown = f"delta:{redacted(path)}"
        self._table = _opened(self.identity, shown, version, at)
        self.version = self._table.version()
        self.name = f"{shown}@{self.version}"
        with _translated(self.name):
            self.written_utc_ns = _written(self._table)
            self._query = _query(shown).register("export", self._table)
            files = pa.table(self._table.get_add_actions())
            self.schema = pa.schema(self._table.schema())
        self.bytes: int = pc.sum(files["size_bytes"]).as_py() or 0
        counts = files["num_records"]
        self.records: int | None = None if counts.null_count else pc.sum(counts).as_py() or 0
        if at is not None and (self.written_utc_ns or 0) > at.timestamp() * 1e9:
            raise SourceError(
                f"{shown}: had no version yet at {at.isoformat()}",
                hint=f"version {self.version} is the earliest that its log has",
            )

    def values(self, column: str) -> Iterator[pa.Array]:
        """Read one column; see `LakeTable.values`."""
        name = column if column in self.schema.names else column.partition(".")[0]
        quoted = name.replace('"', '""')
        with _translated(self.name):
            read = self._query.execute(f'SELECT "{quoted}" FROM export')  # noqa: S608 - it is quoted
            for batch in pa.RecordBatchReader.from_stream(read):
                yield uid_values(batch, column)


def _query(shown: str) -> QueryBuilder:
    try:
        return QueryBuilder(_SESSION)
    except TypeError:
        raise UsageError(
            f"{shown}: needs deltalake 1.6.4 or later", hint="pip install 'deltalake>=1.6.4'"
        ) from None


def _opened(path: str, shown: str, version: int | None, at: datetime | None) -> DeltaTable:
    with _translated(shown):
        if version is not None and version > _LARGE_VERSION:
            latest = DeltaTable(path).version()
            if latest < version:
                raise _no_version(shown, version, latest)
        try:
            table = DeltaTable(path, version=version)
        except DeltaError as error:
            if version is None:
                raise
            raise _no_version(shown, version, DeltaTable(path).version()) from error
        if at is not None:
            table.load_as_version(at)
    return table


def _no_version(shown: str, version: int, latest: int) -> SourceError:
    """Return the error for a version that cannot be opened."""
    if version > latest:
        return SourceError(f"{shown}: has no version {version}", hint=f"its last is {latest}")
    return SourceError(
        f"{shown}: version {version} can no longer be read, its log was cleaned up",
        hint=f"its last is {latest}",
    )


def _written(table: DeltaTable) -> int | None:
    """Return when the version of a table was committed, in ns since 1970; None if unknown."""
    # The commits begin with the latest one of the log, whichever version was opened, and end with
    # that of the version; their numbers are right only if the version is the latest.
    commits = table.history(1)
    milliseconds = commits[-1].get("timestamp") if commits else None
    return None if milliseconds is None else milliseconds * 1_000_000


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Raise `SourceError` for the errors of `deltalake`."""
    try:
        yield
    except TableNotFoundError as error:
        raise MissingExportError(
            f"{name}: there is no Delta table",
            hint="a Delta table is a folder that has _delta_log; name that folder",
        ) from error
    except _ERRORS as error:
        if isinstance(error, pa.ArrowException) and "not found" in str(error):
            raise version_gone(name) from error
        raise unreadable_table(name, error, _ENVIRONMENT if "://" in name else None) from error
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise SourceError(f"{name}: deltalake failed ({one_line(error)})") from error
