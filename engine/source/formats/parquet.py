"""Reads one column of Parquet page by page, so that the size of a row group does not matter.

Strings and binary are used as uids unchanged. Integers, and decimals without a fraction, give their
decimal text. A column of any other type is refused as a whole. Pages with a checksum are verified.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kind

from engine.errors import SourceError
from engine.source.formats.columns import missing, only
from engine.source.formats.rows import RawRows
from engine.source.streams import OpenFile

if TYPE_CHECKING:
    from pyarrow import parquet

_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
_TEXTS |= {pa.binary(), pa.large_binary(), pa.binary_view()}
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
    paths = [path for field in schema for path in _paths(field)]
    if wanted is None:
        wanted = only(name, paths)
    fields = [field for field in schema if field.name == wanted]
    if len(fields) > 1:
        raise SourceError(f"{name}: has {len(fields)} columns named {wanted!r}")
    type_ = fields[0].type if fields else _nested(schema, wanted)
    if type_ is None:
        raise missing(name, paths, wanted)
    if not _holds_uids(type_):
        advice = "a float has no one text; " if kind.is_floating(type_) else ""
        hint = f"{advice}write the column as text or as an integer"
        raise SourceError(f"{name}: column {wanted!r} is {type_}, which cannot be a uid", hint=hint)
    return wanted, opened.metadata.num_rows


def parquet_rows(file: OpenFile, column: str) -> Iterator[RawRows]:
    """Yield the rows of a Parquet file. Raises PyArrow's errors if it is damaged."""
    with _footer_errors():
        opened = _opened(file)
        batch_rows = _batch_rows(opened.metadata)
    rows = 0
    for batch in opened.iter_batches(batch_rows, columns=[column], use_threads=False):
        rows += batch.num_rows
        yield RawRows(_texts(_values(batch, column)), records=batch.num_rows)
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


def _paths(field: pa.Field) -> list[str]:
    """Return the dotted paths of a field's leaf fields."""
    if not kind.is_struct(field.type):
        return [field.name]
    return [f"{field.name}.{path}" for inner in field.type for path in _paths(inner)]


def _nested(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Return the type at a dotted path; None if the path does not exist."""
    fields: Sequence[pa.Field] = list(schema)
    type_: pa.DataType | None = None
    for step in path.split("."):
        type_ = next((field.type for field in fields if field.name == step), None)
        fields = list(type_) if type_ is not None and kind.is_struct(type_) else []
    return type_


def _holds_uids(type_: pa.DataType) -> bool:
    if kind.is_dictionary(type_):
        return _holds_uids(type_.value_type)
    is_whole = kind.is_integer(type_) or (kind.is_decimal(type_) and type_.scale == 0)
    return is_whole or _is_text(type_) or kind.is_null(type_)


def _is_text(type_: pa.DataType) -> bool:
    return type_ in _TEXTS or kind.is_fixed_size_binary(type_)


def _values(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return the column of a batch; a dotted path names a nested column."""
    if column in batch.schema.names:
        return batch.column(column)
    first, *rest = column.split(".")
    array = batch.column(first)
    return pc.struct_field(array, rest)


def _texts(array: pa.Array) -> pa.Array:
    """Return strings as binary, without an assumption of UTF-8, and integers as text."""
    if kind.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.binary() if _is_text(array.type) else pa.string())


def _batch_rows(metadata: Any) -> int:  # noqa: ANN401 - PyArrow has no types
    """Return the rows of a batch, by the uncompressed size of the row group with the widest rows.

    The size is that of all columns, because PyArrow ends the process on a request for the metadata
    of a single column if that is damaged in certain ways.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return min(max(int(_BATCH_BYTES / max(widest, 1)), _BATCH_ROWS.start), _BATCH_ROWS.stop)
