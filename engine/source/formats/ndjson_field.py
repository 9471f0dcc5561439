"""Finds the field of the uids in an ndjson file."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from engine.errors import SourceError, UsageError
from engine.source.formats.columns import listed, missing
from engine.source.formats.file_start import FileStart
from engine.source.formats.recognition import SAMPLE_BYTES

_LOOK_BYTES = 1 << 20
"""How much of a file is searched for a field before it is called missing."""


def field_of(name: str, start: FileStart, wanted: str | None) -> str:
    """Return the wanted field, or the only one there is.

    Fields may be absent from a record, so one is missing only where none of the first megabyte's
    records has it: then `SourceError` is raised, as for JSON that is no object a line.
    `UsageError` where the field has to be named.
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
    if wanted is not None and records:
        raise missing(name, names, wanted, "field")
    if wanted is not None:
        return wanted
    if len(names) == 1:
        return names[0]
    if not names:
        hint = "--column NAME, or --format if the file is no ndjson"
        raise UsageError(f"{name}: starts with no JSON object that has a field", hint=hint)
    raise UsageError(
        f"{name}: has {len(names)} fields; which one holds the uids?",
        hint=f"--column NAME, one of {listed(names)}",
    )


def first_object(start: FileStart) -> dict[str, Any] | None:
    """Return the object on the first line that is not blank; None if that is no object."""
    return object_in(start.text.lstrip().partition(b"\n")[0])


def _refuse_document(name: str, start: FileStart) -> None:
    """Raise `SourceError` for an array, or for objects that span lines."""
    text = start.text.lstrip()
    first_line, _, rest = text.partition(b"\n")
    hint = "one object a line is: jq -c '.[]'"
    if first_line.startswith(b"[") and first_line.strip() != b"[]":
        raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    for line in text[:SAMPLE_BYTES].split(b"\n"):
        if line.rstrip().endswith(b",") and object_in(line.rstrip()[:-1]) is not None:
            raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    if first_line.strip() == b"{" and re.match(rb'\s*["}]', rest):
        hint = "one object a line is: jq -c ."
        raise SourceError(f"{name}: holds JSON objects that span lines", hint=hint)


def _objects(start: FileStart) -> Iterator[dict[str, Any]]:
    """Yield the objects among the lines that were read whole."""
    lines = start.text.split(b"\n")
    if not start.complete:
        lines.pop()
    yield from (record for line in lines if (record := object_in(line)) is not None)


def object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in some bytes; None if they hold anything else."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def has_field(record: Mapping[str, Any], wanted: str) -> bool:
    """Return whether a record has the field, also if it is null or inside of null."""
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
    """Yield the dotted paths of values that are no objects."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from (f"{name}.{path}" for path in _paths(value))
        else:
            yield name
