"""What a comparison needs of an engine, and what snapshots that are kept there need besides."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from engine.planning.database.query_statements import Functions
from engine.source.sql.query import Query


class Session(Protocol):
    """One connection to an engine, with temporary tables; one thread at a time uses it.

    Queries are in the SQL of `engine.planning.database.statements`. Raises `LedgerError` for what
    the engine refuses, and `IncompleteError` if it is away, or in use by another process.
    """

    def new_table(self, name: str, columns: pa.Schema) -> None:
        """Make an empty temporary table."""

    def make_table(self, name: str, query: str) -> None:
        """Make a temporary table of the rows of a query."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the database sends it."""

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""

    def analyze(self, table: str) -> None:
        """Let the planner of queries know how many rows a temporary table has."""

    def transaction(self, *, is_steady: bool = False) -> AbstractContextManager[None]:
        """Commit what the block does at its end, or nothing of it after an error.

        If it `is_steady`, the block only reads, and each query sees the database as it was when
        the block began, if the database can do that. No table is made or loaded in it.
        """

    def cancel(self) -> None:
        """End what another thread runs."""


@runtime_checkable
class QuerySession(Session, Protocol):
    """A connection to a database that also has the rows of an export."""

    @property
    def functions(self) -> Functions:
        """How the database writes what the rows of a query are judged by."""

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""

    def schema_of(self, query: Query) -> pa.Schema:
        """Return the columns of a query, which is not run.

        Raises `SourceError` for what is not one statement that reads, and as `fill`.
        """

    def fill(self, table: str, rows: str, query: Query) -> None:
        """Add the rows that the statement `rows` selects, of which a query is a part.

        The query cannot write. Raises `SourceError` for what the database refuses,
        `SourceUnavailableError` if the database ends it, and `IncompleteError`.
        """


class DatabaseSession(Session, Protocol):
    """A connection to a database that keeps snapshots in tables."""

    @property
    def keys(self) -> str:
        """What follows the type of the uid of a large table, in its definition."""

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""

    def making_tables(self) -> AbstractContextManager[None]:
        """Make the schema if there is none, and let only the block make tables, if possible."""
