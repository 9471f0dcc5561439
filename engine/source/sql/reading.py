"""Runs a query and spools its rows, for one cohort or for many."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import IncompleteError, SourceError
from engine.source.formats.arrow_columns import uid_column, uid_values
from engine.source.formats.columns import missing
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.changes import ACTION, rows_of
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query
from engine.source.sql.result import NoUidError, Result
from engine.source.sql.running import run_query
from engine.source.sql.spool import Spool, open_spools

_MEGABYTE = 1_000_000
_LEAST_FREE_BYTES = 200 * _MEGABYTE
"""What a spool leaves free on its disk: the ledger and the plan need some."""
_CHECKED_BYTES = 16 * _MEGABYTE
"""After so many bytes the disk is looked at again."""
_ADVICE = "cast it in the query: CAST({0} AS text) AS {0}"


@dataclass(frozen=True, slots=True)
class Spooled:
    """What was spooled for one value of the cohort column."""

    path: Path
    digest: str
    rows: int
    read_utc_ns: int


@dataclass(frozen=True, slots=True)
class QueryReading:
    """A query, without `value`, and for whom it is read."""

    connection: Connection
    query: Query
    column: str | None
    """The uid column; None for the only one besides those that the query names."""
    values: Sequence[str | None]
    """The values of `cohort_column` that are spooled; rows with others are passed over."""

    def spool(
        self, folder: Path, cancellation: Cancellation, now_utc_ns: int
    ) -> dict[str | None, Spooled]:
        """Run the query, and write the rows of each value to a file in `folder`.

        Raises as `run_query` does, `SourceError` for a column that is missing or cannot hold uids
        and for a spool that is too large, and `IncompleteError` for a disk that is full.
        """
        try:
            spooled = self._spool(folder, cancellation)
        except SourceError as error:
            if not cancellation.is_requested:
                raise
            raise IncompleteError(f"{self.query.name}: the query was ended") from error
        return {
            value: Spooled(each.path, each.digest, each.rows, now_utc_ns)
            for value, each in spooled.items()
        }

    def check(self) -> str:
        """Let the database parse the query and return no row; return the name of the uid column.

        Raises as `spool` does.
        """
        with run_query(self.connection, self.query, Cancellation(), is_check=True) as result:
            return self._columns(result)[0]

    @contextmanager
    def running(self, cancellation: Cancellation) -> Iterator[tuple[Result, str, list[str]]]:
        """Run the query; yield its result, the uid column, and all columns to read.

        Raises as `spool` does.
        """
        if not self.query.lists_changes:
            with run_query(self.connection, self.query, cancellation) as result:
                yield result, *self._columns(result)
            return
        # A name that the result does not have would be an obscure error of the database, or, for
        # SQLite, a constant: so the columns are known before the rows are put in order.
        with run_query(self.connection, self.query, cancellation, is_check=True) as result:
            column, columns = self._columns(result)
        with run_query(self.connection, self.query, cancellation) as result:
            yield result, column, columns

    def _spool(self, folder: Path, cancellation: Cancellation) -> dict[str | None, Spool]:
        name = self.query.name
        with (
            self.running(cancellation) as (result, column, columns),
            open_spools(folder, self.values, lists_changes=self.query.lists_changes) as spools,
        ):
            limit = _Limit(self.connection, folder, name, spools)
            with refusing_values(name, column), ThreadPoolExecutor(1) as writer:
                writing: Future[int] | None = None  # While the next batch is awaited.
                for batch in result.batches(columns):
                    if writing is not None:
                        limit.count(writing.result())
                    writing = writer.submit(self._write, batch, column, spools)
                if writing is not None:
                    limit.count(writing.result())
            if cancellation.is_requested:  # A driver may end a result that is cut off.
                raise IncompleteError(f"{name}: the query was ended")
        return spools

    def _columns(self, result: Result) -> tuple[str, list[str]]:
        """Return the uid column, and all columns to read; raises as `query_columns`."""
        return query_columns(self.query, result.schema, self.column)

    def _write(self, batch: pa.RecordBatch, column: str, spools: dict[str | None, Spool]) -> int:
        rows = rows_of(batch, column, lists_changes=self.query.lists_changes)
        if self.query.cohort_column is None:
            return spools[None].add(rows)
        whose = uid_values(batch, self.query.cohort_column).cast(pa.binary()).dictionary_encode()
        written = 0
        for number, value in enumerate(whose.dictionary.to_pylist()):
            spool = spools.get(value.decode("utf-8", "replace"))
            if spool is not None:
                written += spool.add(rows.filter(pc.equal(whose.indices, number)))
        return written


def query_columns(query: Query, schema: pa.Schema, wanted: str | None) -> tuple[str, list[str]]:
    """Return the path of the uids in a result, and all columns to read.

    `wanted` is the uid column, None for the only one besides those that the query names. Raises
    `SourceError` for a column that is missing or cannot hold uids, and `UsageError` if the user has
    to name it.
    """
    by = [] if query.cohort_column is None else [query.cohort_column]
    named = [*by, *(each for each in (query.action_column, query.order_column) if each)]
    for each in named:
        if each not in schema.names:
            raise missing(query.name, schema.names, each)
    others = pa.schema([each for each in schema if each.name not in named])
    column = uid_column(query.name, others, wanted, _ADVICE)
    return column, [_first(schema, column), *by, *([ACTION] if query.lists_changes else [])]


def _first(schema: pa.Schema, path: str) -> str:
    """Return the column that a path begins with."""
    return path if path in schema.names else path.partition(".")[0]


@contextmanager
def refusing_values(name: str, column: str) -> Iterator[None]:
    """Raise `SourceError` for a value that cannot be a uid."""
    try:
        yield
    except NoUidError as error:
        raise SourceError(
            f"{name}: column {column!r} has a {error}, which cannot be a uid",
            hint=_ADVICE.format(column),
        ) from error


@dataclass(slots=True)
class _Limit:
    """Refuses to fill the disk."""

    connection: Connection
    folder: Path
    name: str
    spools: dict[str | None, Spool]
    written: int = 0
    _checked: int = -_CHECKED_BYTES

    def count(self, size: int) -> None:
        """Count bytes that were written; raises an error if there are too many."""
        self.written += size
        most = self.connection.spool_megabytes * _MEGABYTE
        if self.written > most:
            raise SourceError(
                f"{self.name}: the result has more than {self.connection.spool_megabytes:,} MB",
                hint=f"raise connections.{self.connection.name}.spool_megabytes, or let the query "
                "return less",
            )
        if self.written - self._checked < _CHECKED_BYTES:
            return
        self._checked = self.written
        if len(self.spools) > 1:  # Each would keep a row group of its own in memory.
            for spool in self.spools.values():
                spool.flush()
        free = shutil.disk_usage(self.folder).free
        if free < _LEAST_FREE_BYTES:
            raise IncompleteError(
                f"{self.name}: {free // _MEGABYTE:,} MB are free below {self.folder}, and the "
                "result of the query is not complete",
                hint="make room there, then run the same command again",
            )
