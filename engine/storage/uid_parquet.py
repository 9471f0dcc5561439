"""Uids and what is known of them in Parquet files, whose content is checked as it is read."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import LedgerError
from engine.storage.arrow import buffers
from engine.storage.files import name_of, new_file, reading_file

_CHECKSUM_KEY = b"cohortsync.rows"


def schema_of(**columns: pa.DataType) -> pa.Schema:
    """Return the schema of columns that hold no nulls."""
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


UIDS = schema_of(uid=pa.binary())
_GROUP_ROWS, _GROUP_BYTES = 250_000, 16_000_000
"""A row group is written once it has so many of either."""


class RowChecksum:
    """Counts rows, and sums up their columns, however they are parted into batches.

    The checksums of Parquet's pages cover what is in the pages. A changed bit in a page's header or
    in the file's footer may still let a reader give fewer rows, or other ones. So this one is kept
    in the file's own metadata.

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


class UidWriter:
    """Writes rows that come in small batches to a Parquet file, in row groups of a useful size."""

    def __init__(self, writer: pq.ParquetWriter, checksum: RowChecksum) -> None:
        self._writer = writer
        self._checksum = checksum
        self._buffered: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

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
        """Write the rows that are buffered."""
        if self._buffered:
            self._writer.write_table(pa.Table.from_batches(self._buffered))
        self._buffered, self._rows, self._bytes = [], 0, 0


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
    """Open a Parquet file to write, which is there, durably, once the block ends well.

    It keeps a checksum of its rows. Raises as `new_file` does.
    """
    # Uids and row numbers hardly ever repeat: a dictionary of them is in vain. Statistics would
    # show uids.
    dictionary = [name for name in schema.names if name not in {"uid", "row"}]
    encodings = {"row": "DELTA_BINARY_PACKED"} if "row" in schema.names else None
    with (
        new_file(path, replaces=replaces) as file,
        pq.ParquetWriter(
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
        rows.flush()
        writer.add_key_value_metadata({_CHECKSUM_KEY: checksum.text})


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows, in order, a few megabytes at a time.

    Raises `LedgerError` for one that is lost or damaged: each page has a checksum, and so have the
    rows as a whole, which can be wrong only once the last of them is read.
    """
    try:
        with open_parquet(path) as file:
            yield from checked_batches(file, columns)
    except Exception as error:
        if not is_damage(error):
            raise
        raise LedgerError(f"{path} cannot be read: {reason_of(error)}", hint=LOST) from error


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to read; raises `OSError`, and what PyArrow does for a damaged one."""
    with (
        reading_file(path) as descriptor,
        pa.OSFile(name_of(descriptor)) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True) as file,
    ):
        yield file


def checked_batches(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an open file; raises `ValueError` if they are not those that were written.

    What PyArrow raises for a damaged file is no closed set.
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


def metadata_of(file: pq.ParquetFile) -> dict[bytes, bytes]:
    """Return a file's own metadata, without the schema that Arrow adds."""
    metadata: dict[bytes, bytes] = dict(file.metadata.metadata or {})
    metadata.pop(_SCHEMA_KEY, None)
    return metadata


_SCHEMA_KEY = b"ARROW:schema"
"""Under this key, PyArrow writes the schema into every file."""


def is_damage(error: Exception) -> bool:
    """Return whether an error of reading is one of the file, and not of too little memory."""
    if not isinstance(error, MemoryError):
        return True
    asked = re.search(r"size (\d+)", str(error))
    return asked is not None and int(asked[1]) > _LARGEST_ALLOCATION


_LARGEST_ALLOCATION = 2**32
"""Only a damaged file asks for more bytes at once."""


def reason_of(error: Exception) -> str:
    """Return in one line why a file could not be read."""
    reason = isinstance(error, OSError) and error.strerror
    return reason or str(error).partition("\n")[0] or "it is damaged"


BATCH_ROWS = 16_384
"""Rows that are handled together, however long their uids are."""

LOST = (
    "put the file back; or pass --trust GENERATION to go on from an older snapshot (`cohortsync "
    "snapshot list` lists them), or --assume-empty to add everything anew and remove nothing"
)
"""What to do about a lost or damaged file without which the cohort's members are unknown."""
