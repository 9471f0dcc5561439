"""A checksum of rows, kept in a Parquet file's own metadata.

The checksums of Parquet's pages cover what is in the pages. A changed bit in a page's header or in
the file's footer may still let a reader give fewer rows, or other ones.
"""

import json
import zlib
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.arrow import buffers

KEY = b"cohortsync.rows"


class RowChecksum:
    """Counts rows, and sums up their columns, however they are parted into batches.

    Columns are binary, or numbers of a fixed width, and hold no nulls.
    """

    def __init__(self, columns: Iterable[str], metadata: Mapping[bytes, bytes] | None) -> None:
        """Sum up these columns; `metadata` is what else the file says of itself."""
        self._file = zlib.crc32(repr(sorted((metadata or {}).items())).encode())
        self.rows = 0
        """Rows counted so far."""
        self._columns = list(columns)
        self._sums: dict[str, int] = {}

    def add(self, rows: pa.RecordBatch) -> None:
        """Count the rows of a batch that has these columns."""
        self.rows += len(rows)
        for name in self._columns:
            for part, content in _parts_of(rows[name]).items():
                key = f"{name} {part}"
                self._sums[key] = zlib.crc32(content, self._sums.get(key, 0))

    @property
    def text(self) -> bytes:
        """The checksum as a file keeps it."""
        return json.dumps(self._fields).encode()

    def fits(self, kept: bytes) -> bool:
        """Say whether a file that keeps this checksum, of these columns or more, has these rows."""
        try:
            said = json.loads(kept)
            return all(said[name] == value for name, value in self._fields.items())
        except (ValueError, KeyError, TypeError):
            return False

    @property
    def _fields(self) -> dict[str, int]:
        return {"rows": self.rows, "file": self._file} | self._sums


def _parts_of(column: pa.Array) -> dict[str, memoryview]:
    """Return a column's bytes in memory; of binary, the lengths as well."""
    if not pa.types.is_binary(column.type):
        return {"values": column.to_numpy(zero_copy_only=False).data}
    lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
    if not len(lengths):
        return {}
    return {"lengths": lengths.data, "values": buffers(column)[1].data}
