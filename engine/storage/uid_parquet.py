"""Reads and writes Parquet files of uids and their data, and checks the content on reading."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import CohortSyncError, LedgerError
from engine.storage.arrow import buffers
from engine.storage.files import name_of, new_file, reading_file

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_CHECKSUM_KEY = b"cohortsync.rows"


def schema_of(**columns: pa.DataType) -> pa.Schema:
    """Return the schema of columns without nulls."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


UIDS = schema_of(uid=pa.binary())
_ENCODINGS = {"uid": "DELTA_LENGTH_BYTE_ARRAY", "row": "DELTA_BINARY_PACKED"}
"""Lengths apart from the bytes: uids of one length are written in two thirds of the time."""
_GROUP_ROWS, _GROUP_BYTES = 250_000, 16_000_000
"""The rows or bytes at which a row group is written."""


class RowChecksum:
    """Counts rows and sums their columns, independently of the division into batches.

    The checksums of Parquet's pages cover the content of the pages. With a changed bit in a page's
    header or in the file's footer, a reader may still return fewer or other rows. So this checksum
    is stored in the file's own metadata.

    Columns are binary or numbers of a fixed width, without nulls.
    """

    def __init__(self, columns: Iterable[str], metadata: Mapping[bytes, bytes] | None) -> None:
        """Sum these columns; `metadata` is the file's other metadata."""
        self.metadata = dict(metadata or {})
        """The file's other metadata."""
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
        """The checksum as stored in a file."""
        return json.dumps(self._fields).encode()

    def fits(self, kept: bytes) -> bool:
        """Return whether the rows match a file's checksum of these columns or more."""
        try:
            said = json.loads(kept)
            return all(said[name] == value for name, value in self._fields.items())
        except (ValueError, KeyError, TypeError):
            return False

    @property
    def _fields(self) -> dict[str, int]:
        file = zlib.crc32(repr(sorted(self.metadata.items())).encode())
        return {"rows": self.rows, "file": file} | self._sums


def _parts_of(column: pa.Array) -> dict[str, memoryview]:
    """Return a column's bytes in memory; for binary, the lengths as well."""
    if not pa.types.is_binary(column.type):
        return {"values": column.to_numpy(zero_copy_only=False).data}
    lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
    if not len(lengths):
        return {}
    return {"lengths": lengths.data, "values": buffers(column)[1].data}


class UidWriter:
    """Writes small batches of rows to a Parquet file in row groups of a suitable size."""

    def __init__(self, writer: "pq.ParquetWriter", checksum: RowChecksum) -> None:
        self._writer = writer
        self._checksum = checksum
        self.metadata: dict[bytes, bytes] = {}
        """Metadata of the file besides that of the schema; written at the end."""
        self._buffered: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether the next row begins a row group."""
        return not self._buffered

    def write(self, rows: pa.RecordBatch) -> None:
        """Write rows of the file's schema."""
        if not rows.num_rows:
            return
        self._checksum.add(rows)
        self._buffered.append(rows)
        self._rows += len(rows)
        self._bytes += rows.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        if self._buffered:
            self._writer.write_table(pa.Table.from_batches(self._buffered))
        self._buffered, self._rows, self._bytes = [], 0, 0

    def end(self) -> None:
        """Write the rows that are left, and the metadata."""
        self.flush()
        self._checksum.metadata.update(self.metadata)
        self._writer.add_key_value_metadata({**self.metadata, _CHECKSUM_KEY: self._checksum.text})


def write_batches(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    compression: str = "lz4",
    *,
    replaces: bool = True,
) -> None:
    """Write a Parquet file, durably; raises as `new_file` does."""
    with open_writer(path, schema, compression, replaces=replaces) as writer:
        for batch in batches:
            writer.write(batch)


@contextmanager
def open_writer(
    path: Path, schema: pa.Schema, compression: str = "lz4", *, replaces: bool = True
) -> Iterator[UidWriter]:
    """Open a Parquet file for writing; it exists, durably, after the block ends without an error.

    It stores a checksum of its rows. Raises as `new_file` does.
    """
    from pyarrow import parquet  # noqa: PLC0415 - large, and a push of csv needs none

    # Uids and row numbers rarely repeat, so a dictionary saves nothing. Statistics would
    # contain uids.
    dictionary = [name for name in schema.names if name not in {"uid", "row"}]
    encodings = {name: kind for name, kind in _ENCODINGS.items() if name in schema.names}
    with (
        new_file(path, replaces=replaces) as file,
        parquet.ParquetWriter(
            file,
            schema,
            compression=compression,
            compression_level=1 if compression == "zstd" else None,
            use_dictionary=dictionary,
            column_encoding=encodings,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer,
    ):
        checksum = RowChecksum(schema.names, schema.metadata)
        rows = UidWriter(writer, checksum)
        yield rows
        rows.end()


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows, in order, a few megabytes at a time.

    Raises `LedgerError` for a missing or damaged file. Each page has a checksum. The rows as a
    whole have one too, which is checked after the last row is read.
    """
    with naming_damage(path), open_parquet(path) as file:
        yield from checked_batches(file, columns)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Raise `LedgerError` that names the file if the block can't read it."""
    try:
        yield
    except CohortSyncError:
        raise
    except Exception as error:
        if not is_damage(error):
            raise
        raise LedgerError(f"{path} cannot be read: {reason_of(error)}", hint=LOST) from error


@contextmanager
def open_parquet(path: Path) -> Iterator["pq.ParquetFile"]:
    """Open a Parquet file for reading; raises `OSError`, or PyArrow's errors if it is damaged."""
    from pyarrow import parquet  # noqa: PLC0415 - large, and a push of csv needs none

    with (
        reading_file(path) as descriptor,
        pa.OSFile(name_of(descriptor)) as opened,
        # With `pre_buffer`, PyArrow keeps all that it has read until the file is closed.
        parquet.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True) as file,
    ):
        yield file


def checked_batches(file: "pq.ParquetFile", columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an open file; raises `ValueError` if they differ from the written rows.

    PyArrow may raise any error for a damaged file.
    """
    if _SCHEMA_KEY not in (file.metadata.metadata or {}):
        raise ValueError("its metadata is lost")
    metadata = metadata_of(file)
    kept = metadata.pop(_CHECKSUM_KEY, None)
    checksum = RowChecksum(columns, metadata)
    for rows in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
        checksum.add(rows)
        yield rows
    if checksum.rows != file.metadata.num_rows or not (kept is None or checksum.fits(kept)):
        raise ValueError("its rows are not those that were written")


def metadata_of(file: "pq.ParquetFile") -> dict[bytes, bytes]:
    """Return a file's own metadata, without the schema that Arrow adds."""
    metadata: dict[bytes, bytes] = dict(file.metadata.metadata or {})
    metadata.pop(_SCHEMA_KEY, None)
    return metadata


_SCHEMA_KEY = b"ARROW:schema"
"""The key under which PyArrow writes the schema into every file."""


def is_damage(error: Exception) -> bool:
    """Return whether an error of reading is caused by the file, and not by too little memory."""
    if not isinstance(error, MemoryError):
        return True
    asked = re.search(r"size (\d+)", str(error))
    return asked is not None and int(asked[1]) > _LARGEST_ALLOCATION


_LARGEST_ALLOCATION = 2**32
"""Bytes; only a damaged file requests a larger allocation."""


def reason_of(error: Exception) -> str:
    """Return the reason of a failed read in one line."""
    reason = isinstance(error, OSError) and error.strerror
    return reason or str(error).partition("\n")[0] or "it is damaged"


BATCH_ROWS = 16_384
"""Number of rows processed together, independent of the length of their uids."""

LOST = (
    "put the file back; or pass --trust GENERATION to go on from an older snapshot (`cohortsync "
    "snapshot list` lists them), or --assume-empty to add everything again and remove nothing"
)
"""The hint for a lost or damaged file without which the cohort's members are unknown."""
