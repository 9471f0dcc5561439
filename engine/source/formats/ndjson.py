"""Ndjson: a JSON object a line.

A string is a uid as it is; an integer is its decimal text, beyond 64 bits too (orjson calls a
line with one of more than 308 digits malformed). A missing field, null and an empty line are
blank; everything else is invalid, NaN and Infinity anywhere in a line too, as JSON has none.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from engine.source.formats.lines import whole_lines
from engine.source.formats.rows import (
    NOT_UTF8,
    OVER_LONG,
    READ_SIZE,
    RECORD_LIMIT,
    RawRows,
    is_blank,
    no_values,
)
from engine.source.streams import Stream

_NOT_JSON = "malformed JSON"
_NOT_AN_OBJECT = "not a JSON object"
_KINDS = {bool: "a boolean", float: "a float", list: "an array", dict: "an object"}


def ndjson_rows(
    stream: Stream, column: str, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[RawRows]:
    """Yield the lines of an ndjson file with the values of one field."""
    for data in whole_lines(stream, size, limit):
        if data is None:
            yield RawRows(no_values(), ((0, OVER_LONG),), records=1)
            continue
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        yield _fast(lines, column) or _careful(lines, column)


def getter(column: str) -> Callable[[dict[str, Any]], Any]:
    """Return a function that gets a column's value: of the field by that name, else by its path."""
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
    """Read lines that all are objects with a string or null; None where one is not."""
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
    """Return a line's uid, None where it is blank. Raises `ValueError` with the reason."""
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
    except RecursionError:  # where orjson goes a little deeper
        raise ValueError(_NOT_JSON) from None
    return record


def _fault(line: bytes) -> str:
    """Return why orjson refuses a line, by what Python's own parser finds."""
    constants: list[str] = []
    try:
        json.loads(line.decode(), parse_constant=constants.append)
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError):
        return _NOT_JSON
    return f"{_NOT_JSON} ({constants[0]} is not JSON)" if constants else _NOT_JSON
