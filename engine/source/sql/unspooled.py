"""The result of a query read straight from the database, for a look at its first rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.source.block import Block
from engine.source.formats.arrow_columns import uid_values
from engine.source.formats.rows import blocks_of
from engine.source.options import ReadingOptions
from engine.source.source_file import Layout
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query
from engine.source.sql.reading import QueryReading, refusing_values
from engine.source.sql.running import run_query


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
        return blocks_of(self._values(), file=self._query.name, strip=self._options.strip)

    def _values(self) -> Iterator[pa.Array]:
        query = self._query
        reading = QueryReading(self._connection, query, self._options.column, (query.value,))
        with run_query(self._connection, query, Cancellation()) as result:
            column, columns = reading.columns(result)
            self.layouts = (Layout("query", column),)
            with refusing_values(query.name, column):
                for batch in result.batches(columns):
                    uids = uid_values(batch, column)
                    if query.cohort_column is not None:
                        whose = uid_values(batch, query.cohort_column).cast(pa.binary())
                        uids = uids.filter(pc.equal(whose, (query.value or "").encode()))
                    yield uids
