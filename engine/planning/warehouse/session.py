"""A session in a warehouse: each statement is translated, and run by its driver."""

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import pyarrow as pa

from engine.planning.database.failures import Failures
from engine.planning.database.statements import columns_of
from engine.planning.warehouse.dialects import Dialect, translated


class Driver(Protocol):
    """A connection to a warehouse. It raises what `errors` has."""

    @property
    def dialect(self) -> Dialect:
        """The SQL that it runs."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises."""

    @property
    def has_temporary_tables(self) -> bool:
        """Whether a temporary table can be loaded."""

    def run(self, statement: str) -> None:
        """Run a statement that returns nothing."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the warehouse sends it."""

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table of `SCHEMA`."""

    def cancel(self) -> None:
        """End what another thread runs."""


class WarehouseSession:
    """A connection to a warehouse. Fulfils `DatabaseSession`."""

    keys = ""
    """None: warehouses have no indexes."""

    def __init__(self, driver: Driver, failures: Failures) -> None:
        self._driver = driver
        self._failures = failures
        self._prefix = None if driver.has_temporary_tables else f"temporary_{secrets.token_hex(8)}_"
        self._made: list[str] = []

    def execute(self, *statements: str) -> None:
        """Run statements that return nothing."""
        self._run(*(self._written(each) for each in statements))

    def new_table(self, name: str, columns: pa.Schema) -> None:
        """Make an empty temporary table."""
        self._made.append(name)
        self.execute(f"create temp table {name} ({columns_of(columns)})")

    def make_table(self, name: str, query: str) -> None:
        """Make a temporary table of the rows of a query."""
        self._made.append(name)
        self.execute(f"create temp table {name} as {query}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with self._failures.named(self._driver.errors):
            return self._driver.rows(self._written(query))

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a large result, as the warehouse sends it."""
        with self._failures.named(self._driver.errors):
            found = self._driver.batches(self._written(query))
        while True:
            with self._failures.named(self._driver.errors):
                batch = next(found, None)
            if batch is None:
                return
            yield batch

    def load(self, table: str, rows: pa.Table) -> None:
        """Add rows to a temporary table that has their columns."""
        if len(rows):
            with self._failures.named(self._driver.errors):
                self._driver.load((self._prefix or "") + table, rows)

    @contextmanager
    def transaction(self, *, is_steady: bool = False) -> Iterator[None]:
        """Commit what the block does at its end, or nothing of it after an error.

        If it `is_steady`, do nothing: in Snowflake, each statement of a transaction sees what is
        committed by then. Who reads so asks for the current generation before and after.
        """
        if is_steady:
            yield
            return
        self._run("BEGIN TRANSACTION")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with self._failures.ignored(self._driver.errors):
                self._driver.run("ROLLBACK")
            raise

    def making_tables(self) -> AbstractContextManager[None]:
        """Do nothing: each table is made by itself, if it does not exist."""
        return nullcontext()

    def analyze(self, table: str) -> None:
        """Do nothing: a warehouse knows."""

    def cancel(self) -> None:
        """End what another thread runs."""
        with self._failures.ignored(self._driver.errors):  # The statement may just have ended.
            self._driver.cancel()

    def close(self) -> None:
        """Delete the tables that stand for temporary ones; those of a dead process expire."""
        for name in self._made if self._prefix else ():
            with self._failures.ignored(self._driver.errors):
                self._driver.run(self._written(f"drop table if exists {name}"))

    def _run(self, *statements: str) -> None:
        with self._failures.named(self._driver.errors):
            for each in statements:
                self._driver.run(each)

    def _written(self, statement: str) -> str:
        return translated(statement, self._driver.dialect, self._prefix)
