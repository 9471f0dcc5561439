"""Finds the uid column in an Arrow schema, and takes its values out of batches.

Strings and binary are used as uids unchanged. Integers, and decimals without a fraction, give their
decimal text. A column of any other type is refused as a whole.
"""

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kind

from engine.errors import SourceError
from engine.source.formats.columns import missing, only

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
_TEXTS |= {pa.binary(), pa.large_binary(), pa.binary_view()}


def uid_column(name: str, schema: pa.Schema, wanted: str | None) -> str:
    """Return the path of the uid column: the wanted one, or the only one.

    `name` is that of the export. Raises `SourceError` for a column that is missing or cannot hold
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
        advice = "a float has no one text; " if kind.is_floating(type_) else ""
        hint = f"{advice}write the column as text or as an integer"
        raise SourceError(f"{name}: column {wanted!r} is {type_}, which cannot be a uid", hint=hint)
    return wanted


def uid_values(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return the values of the uid column: strings as binary, integers as text.

    Strings are not assumed to be UTF-8. A dotted path names a nested column.
    """
    array = _values(batch, column)
    if kind.is_dictionary(array.type):
        array = array.dictionary_decode()
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
