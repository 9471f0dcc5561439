"""Reads queries as a run does, without one."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.source.block import Block
from engine.source.options import ReadingOptions
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query, QueryResult
from engine.source.sql.reading import QueryReading
from engine.source.sql.spool import SpoolSource

NOW = 1_764_201_600_000_000_000


def spooled(
    connection: Connection,
    text: str,
    folder: Path,
    column: str | None = None,
    cancellation: Cancellation | None = None,
    **further: str,
) -> QueryResult:
    """Run a query, and spool its rows in a folder; `further` names columns of it."""
    query = Query(connection.name, text, **further)
    reading = QueryReading(connection, query, column, (None,))
    found = reading.spool(folder, cancellation or Cancellation(), NOW)[None]
    return QueryResult(query, found.digest, found.path, found.read_utc_ns)


@contextmanager
def cancelling(cancellation: Cancellation) -> Iterator[None]:
    """Request the end of a query, again and again, as it may not have begun yet."""
    is_over = threading.Event()

    def request() -> None:
        while not is_over.wait(0.05):
            cancellation.request()

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def blocks(
    connection: Connection,
    text: str,
    folder: Path,
    column: str | None = None,
    *,
    strip: bool = False,
) -> list[Block]:
    """Run a query, and read its spool."""
    found = spooled(connection, text, folder, column)
    return list(SpoolSource(found, ReadingOptions(column, strip=strip)).blocks())


def uids(connection: Connection, text: str, folder: Path, column: str | None = None) -> list[str]:
    """Run a query, and return its uids."""
    return [
        uid for block in blocks(connection, text, folder, column) for uid in block.uids.to_pylist()
    ]


ORDERED = 'select \'{}\' as uid, {} as "Op", {} as "at ""last"" `noted`"'
"""One row of a list of changes; the names of the columns need quotes."""


def spooled_changes(
    connection: Connection, rows: Sequence[tuple[str, str, str]], folder: Path
) -> QueryResult:
    """Spool rows of a uid, an action and a place."""
    text = " union all ".join(ORDERED.format(*row) for row in rows)
    names = {"action_column": "Op", "order_column": 'at "last" `noted`'}
    return spooled(connection, text, folder, **names)


def changes(
    connection: Connection, rows: Sequence[tuple[str, str, str]], folder: Path
) -> list[tuple[str, bool] | str]:
    """Read rows of a uid, an action and a place; return them in order, or why they are invalid."""
    found = spooled_changes(connection, rows, folder)
    [block] = SpoolSource(found, ReadingOptions()).blocks()
    assert block.is_remove is not None
    listed = zip(block.uids.to_pylist(), block.is_remove.tolist(), strict=True)
    return [*listed, *(run.reason for run in block.skipped for _ in range(run.count))]


TEXTS = [
    *(("a", "'remove'", "3"), ("b", "' Add '", "3"), ("c", "'REMOVE'", "1"), ("d", "'aDD'", "2")),
    *(("e", "'upsert'", "2"), ("f", "null", "2"), ("g", "'add'", "null"), ("h", "'removed'", "1")),
]
SORTED_TEXTS: list[tuple[str, bool] | str] = [
    *(("c", True), ("d", False), ("b", False), ("a", True)),
    "no place in the order: the order column is null",
    "the action is neither add nor remove",
    "no action: the action column is null",
    "the action is neither add nor remove",
]
