"""A ledger that is only read, beside whoever writes to it."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class LedgerReader:
    """Asks a ledger as `Ledger` does, on a connection that cannot write."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that only reads; another one raises SQLite's error."""
        return function(self._connection)
