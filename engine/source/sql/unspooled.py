"""The result of a query read straight from the database, for a look at its first rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.source.block import Block
from engine.source.formats.arrow_columns import uid_values
from engine.source.formats.rows import BLOCK_ROWS, not_without_uid
from engine.source.options import ReadingOptions
from engine.source.source_file import Layout
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.changes import block_of, rows_of
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query
from engine.source.sql.reading import QueryReading, refusing_values


class UnspooledResult:
    """A query as a source; each reading runs it. Fulfils `Source` and `HasLayouts`.

    A reading that ends early ends the query.
    """

    notes = ()

    def __init__(self, connection: Connection, query: Query, options: ReadingOptions) -> None:
        self._connection = connection
        self._query = query
        self._options = options
        self.layouts: tuple[Layout, ...] = ()
        """The column that is read, once the query is running. See `HasLayouts`."""
        self.identity: Mapping[str, Any] = {
            "query": query.to_dict(),
            "column": options.column,
            "strip": options.strip,
        }

    def blocks(self) -> Iterator[Block]:
        """Run the query, and read its rows. Raises as `QueryReading.spool` does."""
        return not_without_uid(self._blocks(), self._query.name)

    def _blocks(self) -> Iterator[Block]:
        record = 1
        for rows in self._rows():
            for start in range(0, len(rows), BLOCK_ROWS):
                part = rows.slice(start, BLOCK_ROWS)
                yield block_of(
                    part, file=self._query.name, first_record=record, strip=self._options.strip
                )
                record += len(part)

    def _rows(self) -> Iterator[pa.RecordBatch]:
        query = self._query
        reading = QueryReading(self._connection, query, self._options.column, (query.value,))
        with reading.running(Cancellation()) as (result, column, columns):
            self.layouts = (Layout("query", column),)
            with refusing_values(query.name, column):
                for batch in result.batches(columns):
                    rows = rows_of(batch, column, lists_changes=query.lists_changes)
                    if query.cohort_column is not None:
                        whose = uid_values(batch, query.cohort_column).cast(pa.binary())
                        rows = rows.filter(pc.equal(whose, (query.value or "").encode()))
                    yield rows
