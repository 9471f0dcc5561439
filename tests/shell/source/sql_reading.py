"""Reads queries as a run does, without one."""

import threading
from collections.abc import Iterator
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
) -> QueryResult:
    """Run a query, and spool its rows in a folder."""
    query = Query(connection.name, text)
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
