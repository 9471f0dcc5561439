"""The result of a query that the database evaluates and compares: no row of it comes here."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import SourceError
from engine.source.block import Block
from engine.source.options import ReadingOptions
from engine.source.source_file import SourceFile
from engine.source.sql.query import QueryResult


class UnreadResult:
    """A query as the source of a plan that a database makes. Fulfils `Source` and `HasFiles`.

    It counts as one file, with the name of the query, written when the query was run.
    """

    notes = ()

    def __init__(self, result: QueryResult, options: ReadingOptions) -> None:
        self.query = result.query
        self.options = options
        self.identity: Mapping[str, Any] = {
            "query": self.query.to_dict(),
            "column": options.column,
            "strip": options.strip,
        }
        self._read_utc_ns = result.read_utc_ns
        self._uids = 0

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The result as one file. See `HasFiles`."""
        return (SourceFile(self.query.name, None, self._read_utc_ns, self._uids),)

    def note_evaluated(self, uids: int) -> None:
        """Keep the number of uids that the database has found."""
        self._uids = uids

    def blocks(self) -> Iterator[Block]:
        """Raise `SourceError`: the rows stay in the database."""
        raise SourceError(
            f"{self.query.name}: the database evaluates the query, its rows are not kept here",
            hint="run the command of the cohort again: it runs the query again, as a new run",
        )
