"""A ledger that is only read, beside whoever writes to it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from engine.clock import Clock
from engine.ledger.sqlite.access import file_size, refuse_emptied, refuse_lost
from engine.ledger.sqlite.failures import readable_errors
from engine.ledger.sqlite.plans import PlanStore
from engine.ledger.sqlite.runs import RunStore
from engine.ledger.sqlite.schema import open_blank, open_for_reading
from engine.ledger.sqlite.snapshot_index import SnapshotIndex
from engine.ledger.state_folder import LEDGER_NAME

T = TypeVar("T")


class LedgerReader:
    """The stores of a ledger, on a connection that cannot write."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
        self._connection = connection
        self._path = path
        self.runs = RunStore(self._read, clock)
        self.plans = PlanStore(self._read, clock)
        self.snapshots = SnapshotIndex(self._read, clock)

    def refuse_lost(self) -> None:
        """Raise `LedgerError` if the ledger was made in the place of one that was lost."""
        refuse_lost(self._connection, self._path)

    async def _read(
        self, function: Callable[[sqlite3.Connection], T], max_wait_seconds: float = 0.0
    ) -> T:
        del max_wait_seconds
        return function(self._connection)


@contextmanager
def read_ledger(folder: Path, clock: Clock) -> Iterator[LedgerReader]:
    """Lend the ledger in a workspace's folder, or a blank one where there is none.

    Raises `LedgerError` for a ledger that is lost or cannot be read.
    """
    path = folder / LEDGER_NAME
    refuse_emptied(path)
    connection = open_for_reading(path) if file_size(path) else open_blank()
    with closing(connection), readable_errors(path):
        yield LedgerReader(connection, path, clock)
