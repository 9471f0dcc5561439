"""Reads ndjson (one JSON object per line) and finds the uid field.

A string is used as the uid unchanged. An integer gives its decimal text, beyond 64 bits too (orjson
reports a line with an integer of more than 308 digits as malformed). A missing field, null and an
empty line are blank. Everything else is invalid, as are NaN and Infinity anywhere in a line,
because JSON has neither.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pyarrow as pa

from engine.errors import SourceError, UsageError
from engine.source.formats.columns import missing, only
from engine.source.formats.lines import FileStart, whole_lines
from engine.source.formats.rows import (
    NOT_UTF8,
    OVER_LONG,
    READ_SIZE,
    RECORD_LIMIT,
    RawRows,
    is_blank,
    no_values,
)
from engine.source.formats.unsupported_content import SAMPLE_BYTES
from engine.source.streams import Stream

_NOT_JSON = "malformed JSON"
_NOT_AN_OBJECT = "not a JSON object"
_LOOK_BYTES = 1 << 20
"""Bytes of a file that are searched for a field before it is reported as missing."""

_KINDS = {bool: "a boolean", float: "a float", list: "an array", dict: "an object"}


def field_of(name: str, start: FileStart, wanted: str | None) -> str:
    """Return the wanted field, or the only field.

    A record may lack a field, so a field is missing only if no record in the first megabyte has it.
    Raises `SourceError` for a missing field and for JSON that is not one object per line,
    `UsageError` if the user has to name the field.
    """
    _refuse_document(name, start)
    while True:
        records = list(_objects(start))
        if wanted is not None and any(has_field(record, wanted) for record in records):
            return wanted
        if records and wanted is None:
            break
        if len(start.data) >= _LOOK_BYTES or not start.extend():
            break
    names = list(dict.fromkeys(path for record in records for path in _paths(record)))
    if wanted is not None:
        if records:
            raise missing(name, names, wanted, "field")
        return wanted
    if not names:
        hint = "--column NAME, or --format if the file is no ndjson"
        raise UsageError(f"{name}: starts with no JSON object that has a field", hint=hint)
    return only(name, names, "field")


def first_object(start: FileStart) -> dict[str, Any] | None:
    """Return the object on the first non-blank line; None if that line is not an object."""
    return object_in(start.text.lstrip().partition(b"\n")[0])


def _refuse_document(name: str, start: FileStart) -> None:
    """Raise `SourceError` for an array, or for objects that span lines."""
    text = start.text.lstrip()
    first_line, _, rest = text.partition(b"\n")
    hint = "one object a line is: jq -c '.[]'"
    is_array = first_line.startswith(b"[") and first_line.strip() != b"[]"
    lines = (line.rstrip() for line in text[:SAMPLE_BYTES].split(b"\n"))
    if is_array or any(line[-1:] == b"," and object_in(line[:-1]) is not None for line in lines):
        raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    if first_line.strip() == b"{" and re.match(rb'\s*["}]', rest):
        hint = "one object a line is: jq -c ."
        raise SourceError(f"{name}: holds JSON objects that span lines", hint=hint)


def _objects(start: FileStart) -> Iterator[dict[str, Any]]:
    """Yield the objects in the complete lines of the start."""
    lines = start.text.split(b"\n")
    if not start.complete:
        lines.pop()
    yield from (record for line in lines if (record := object_in(line)) is not None)


def object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in the line; None for anything else."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def has_field(record: Mapping[str, Any], wanted: str) -> bool:
    """Return whether a record has the field, also if the field or its parent is null."""
    if wanted in record:
        return True
    value: Any = record
    for step in wanted.split("."):
        if value is None:
            return True
        if not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return True


def _paths(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted paths of values other than objects."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from (f"{name}.{path}" for path in _paths(value))
        else:
            yield name


def ndjson_rows(
    stream: Stream, column: str, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[RawRows]:
    """Yield the rows of an ndjson file, with the values of one field."""
    for data in whole_lines(stream, size, limit):
        if data is None:
            yield RawRows(no_values(), ((0, OVER_LONG),), records=1)
            continue
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        yield _fast(lines, column) or _careful(lines, column)


def getter(column: str) -> Callable[[dict[str, Any]], Any]:
    """Return a function that gets a column's value by the field's name, else by its path."""
    path = column.split(".")

    def find(record: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON holds anything
        value = record.get(column, record)
        if value is not record:
            return value
        for step in path:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value

    return find


def _fast(lines: list[bytes], column: str) -> RawRows | None:
    """Read lines that all are objects with a string or null; None if one is not."""
    loads = orjson.loads
    try:
        if "." in column:
            find = getter(column)
            values = [find(loads(line)) for line in lines]
        else:
            values = [loads(line).get(column) for line in lines]
        return RawRows(pa.array(values, pa.string()), records=len(lines))
    except (ValueError, TypeError, AttributeError, pa.ArrowException):
        return None


def _careful(lines: list[bytes], column: str) -> RawRows:
    """Read line by line."""
    find = getter(column)
    values: list[str | None] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        try:
            values.append(_uid(line, find))
        except ValueError as error:
            refused.append((number, str(error)))
    return RawRows(pa.array(values, pa.string()), refused, len(lines))


def _uid(line: bytes, find: Callable[[dict[str, Any]], Any]) -> str | None:
    """Return a line's uid; None if it is blank. Raises `ValueError` with the reason."""
    if is_blank(line):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError(_fault(line)) from None
    if not isinstance(record, dict):
        raise ValueError(_NOT_AN_OBJECT)  # noqa: TRY004 - the line's fault, not the caller's
    value = find(record)
    if isinstance(value, float):  # or an integer beyond 64 bits, which orjson rounds
        value = find(_with_integers_as_text(line))
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise ValueError(f"uid is {_KINDS[type(value)]}")


def _with_integers_as_text(line: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line.decode(), parse_int=str)
    except RecursionError:  # orjson's limit on nesting is a little higher
        raise ValueError(_NOT_JSON) from None
    return record


def _fault(line: bytes) -> str:
    """Return why orjson refuses a line, according to Python's own parser."""
    constants: list[str] = []
    try:
        json.loads(line.decode(), parse_constant=constants.append)
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError):
        return _NOT_JSON
    return f"{_NOT_JSON} ({constants[0]} is not JSON)" if constants else _NOT_JSON
