"""What the engine needs of a database: one connection to it, with temporary tables."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pyarrow as pa


class Session(Protocol):
    """One connection, which one thread at a time uses.

    Raises `LedgerError` for what the database refuses, and `IncompleteError` if it is away, or in
    use by another process.
    """

    @property
    def keys(self) -> str:
        """What follows the type of the uid of a large table, in its definition."""

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the database sends it."""

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""

    def transaction(self, *, is_steady: bool = False) -> AbstractContextManager[None]:
        """Commit what the block does at its end, or nothing of it after an error.

        If it `is_steady`, each query sees the database as it was when the block began.
        """

    def lock_schema(self) -> None:
        """Let no other connection make tables until the transaction ends."""

    def analyze(self, table: str) -> None:
        """Let the planner of queries know how many rows a temporary table has."""

    def cancel(self) -> None:
        """End what another thread runs."""


Connect = Callable[[], AbstractContextManager[Session]]
"""Opens a session, which is closed when the block ends."""
