"""Runs a query on an SQLite file, by Python's own module."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from engine.source.sql.cancellation import Cancellation
from engine.source.sql.driver_errors import Said, translated
from engine.source.sql.result import BATCH_ROWS, Result, result_of_rows

_ERRORS = (sqlite3.Error,)


def _authorize(action: int, *_: str | None) -> int:
    """Refuse other files: ATTACH and VACUUM INTO would make them, though this one is read only."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


@contextmanager
def run(path: Path, text: str, said: Said, cancellation: Cancellation) -> Iterator[Result]:
    """Run a query on a file that is opened for reading only, and yield its result.

    Raises `SourceError`.
    """
    with translated(said, _ERRORS, is_open=False):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    with closing(connection), cancellation.passed_to(connection.interrupt):
        connection.text_factory = bytes  # Text that is not UTF-8 is one bad row.
        connection.set_authorizer(_authorize)
        with translated(said, _ERRORS, is_open=True):
            cursor = connection.execute(text)

        def chunks() -> Iterator[list[tuple[Any, ...]]]:
            while True:
                with translated(said, _ERRORS, is_open=True):
                    rows = cursor.fetchmany(BATCH_ROWS)
                if not rows:
                    return
                yield rows

        yield result_of_rows([each[0] for each in cursor.description or ()], chunks())
