"""Reads one column of Parquet page by page, so that the size of a row group does not matter.

Pages with a checksum are verified.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.source.formats.arrow_columns import uid_column, uid_values
from engine.source.formats.rows import RawRows
from engine.source.streams import OpenFile

if TYPE_CHECKING:
    from pyarrow import parquet

_BATCH_BYTES = 1 << 20
_BATCH_ROWS = range(64, 1 << 15)
"""Bounds of a batch: well-compressed rows may be much longer than their share of the file."""
_BUFFER_BYTES = 1 << 18
"""Bytes of the read buffer; without it PyArrow reads a row group's whole column at once."""


def parquet_column(name: str, file: OpenFile, wanted: str | None) -> tuple[str, int]:
    """Return the path of the uid column, and the number of rows in the file's metadata.

    Raises `SourceError` or `UsageError` for the column, and PyArrow's error for a truncated file or
    one that is not Parquet.
    """
    with _footer_errors():
        opened = _opened(file)
        schema = opened.schema_arrow
    return uid_column(name, schema, wanted), opened.metadata.num_rows


def parquet_rows(file: OpenFile, column: str) -> Iterator[RawRows]:
    """Yield the rows of a Parquet file. Raises PyArrow's errors if it is damaged."""
    with _footer_errors():
        opened = _opened(file)
        batch_rows = _batch_rows(opened.metadata)
    rows = 0
    for batch in opened.iter_batches(batch_rows, columns=[column], use_threads=False):
        rows += batch.num_rows
        yield RawRows(uid_values(batch, column), records=batch.num_rows)
    if rows != opened.metadata.num_rows:
        raise pa.ArrowInvalid(f"{rows:,} rows read of {opened.metadata.num_rows:,}")


def _opened(file: OpenFile) -> "parquet.ParquetFile":
    from pyarrow import parquet  # noqa: PLC0415 - large, and a push of csv needs none

    return parquet.ParquetFile(
        file, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
    )


@contextmanager
def _footer_errors() -> Iterator[None]:
    """Raise `ArrowInvalid` for a damaged name, for which PyArrow raises `UnicodeDecodeError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid("a name in its footer is not UTF-8") from error


def _batch_rows(metadata: Any) -> int:  # noqa: ANN401 - PyArrow has no types
    """Return the rows of a batch, by the uncompressed size of the row group with the widest rows.

    The size is that of all columns, because PyArrow ends the process on a request for the metadata
    of a single column if that is damaged in certain ways.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return min(max(int(_BATCH_BYTES / max(widest, 1)), _BATCH_ROWS.start), _BATCH_ROWS.stop)
