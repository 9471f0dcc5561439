"""Finds the uid column in an Arrow schema, and takes its values out of batches.

Strings and binary are used as uids unchanged. Integers, and decimals without a fraction, give their
decimal text, and UUIDs theirs. A column of any other type is refused as a whole.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kind

from engine.errors import SourceError
from engine.source.formats.columns import missing, only

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
_TEXTS |= {pa.binary(), pa.large_binary(), pa.binary_view()}
_ADVICE = "write the column as text or as an integer"


def uid_column(name: str, schema: pa.Schema, wanted: str | None, advice: str = _ADVICE) -> str:
    """Return the path of the uid column: the wanted one, or the only one.

    `name` is that of the export, `advice` what to do about a column of another type, in which
    `{}` stands for its name. Raises `SourceError` for a column that is missing or cannot hold
    uids, and `UsageError` if the user has to name it.
    """
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
        reason = "a float has no one text; " if kind.is_floating(type_) else ""
        shown = type_.type_name if isinstance(type_, pa.OpaqueType) else type_
        raise SourceError(
            f"{name}: column {wanted!r} is {shown}, which cannot be a uid",
            hint=reason + advice.format(wanted),
        )
    return wanted


def uid_values(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return the values of the uid column: strings as binary, integers as text.

    Strings are not assumed to be UTF-8. A dotted path names a nested column.
    """
    array = _values(batch, column)
    if kind.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array.type, pa.UuidType):
        return _uuid_texts(array.storage)
    return array.cast(pa.binary() if _is_text(array.type) else pa.string())


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
    if isinstance(type_, pa.UuidType):
        return True
    is_whole = kind.is_integer(type_) or (kind.is_decimal(type_) and type_.scale == 0)
    return is_whole or _is_text(type_) or kind.is_null(type_)


def _is_text(type_: pa.DataType) -> bool:
    return type_ in _TEXTS or kind.is_fixed_size_binary(type_)


def _uuid_texts(values: pa.FixedSizeBinaryArray) -> pa.StringArray:
    """Return the texts of UUIDs, as 123e4567-e89b-12d3-a456-426614174000."""
    raw = np.frombuffer(values.buffers()[1], np.uint8).reshape(-1, 16)
    raw = raw[values.offset : values.offset + len(values)]
    texts = np.full((len(raw), 36), ord("-"), np.uint8)
    texts[:, _UUID_PLACES[::2]] = _DIGITS[raw >> 4]
    texts[:, _UUID_PLACES[1::2]] = _DIGITS[raw & 15]
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * 36
    found = pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(texts))
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.string()))


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_UUID_PLACES = [place for place in range(36) if place not in {8, 13, 18, 23}]
"""Where the 32 digits of a UUID are in its text."""


def _values(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return the column of a batch; a dotted path names a nested column."""
    if column in batch.schema.names:
        return batch.column(column)
    first, *rest = column.split(".")
    array = batch.column(first)
    return pc.struct_field(array, rest)
