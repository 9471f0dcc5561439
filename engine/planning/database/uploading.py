"""Loads rows into a temporary table, in parts of a suitable size."""

from collections.abc import Iterable

import pyarrow as pa

from engine.planning.database.session import Session

_ROWS, _BYTES = 250_000, 32_000_000
"""The rows or bytes at which a part is loaded."""
_TYPES = {pa.uint8(): pa.int16()}
"""What the types of columns become: databases have no unsigned numbers of one byte."""


class TableList:
    """Rows that are being loaded into a temporary table. Fulfils `UidList`."""

    def __init__(self, session: Session, table: str) -> None:
        self._session = session
        self.table = table
        """Its name."""
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows; raises as `Session.load`."""
        if not len(rows):
            return
        self._waiting.append(rows)
        self._rows += len(rows)
        self._bytes += rows.nbytes
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            self._load()

    def finish(self) -> None:
        """Load what is left; raises as `write`."""
        if self._waiting:
            self._load()

    def _load(self) -> None:
        table = pa.Table.from_batches(self._waiting)
        fields = [pa.field(each.name, _TYPES.get(each.type, each.type)) for each in table.schema]
        self._session.load(self.table, table.cast(pa.schema(fields)))
        self._waiting, self._rows, self._bytes = [], 0, 0


def upload(session: Session, table: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Load rows into a temporary table that has their columns, and count them for its queries."""
    rows = TableList(session, table)
    for each in batches:
        rows.write(each)
    rows.finish()
    session.analyze(table)
