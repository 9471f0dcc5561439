"""An export that is the result of a query, for an engine that evaluates the query itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.payload.batch import RowCounter
from engine.planning.profile import Inspection
from engine.source.block import Skipped
from engine.source.options import ReadingOptions
from engine.source.sql.query import Query


@dataclass(frozen=True, slots=True)
class QueryExport:
    """A query, and who is told what is in its rows."""

    query: Query
    """Without dates; its connection is that of the engine."""
    options: ReadingOptions
    """The uid column, and whether white space around a uid is removed."""
    inspection: Inspection
    """Is given a sample of the uids, and the number of those that do not match its pattern."""
    counts: RowCounter
    """Is updated, so that it is correct even if the rest fails."""
    skip: Callable[[Sequence[Skipped]], None]
    """Receives the rows without a uid, after they are counted, ascending."""
