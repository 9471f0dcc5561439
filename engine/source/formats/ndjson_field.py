"""Which field of an ndjson file holds the uids."""

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


def field_of(name: str, head: FileStart, wanted: str | None) -> str:
    """Return the wanted field, or the only one there is.

    Fields may be absent from a record, so one is missing only where none of the first megabyte's
    records has it: then `SourceError` is raised, as for JSON that is no object a line.
    `UsageError` where the field has to be named.
    """
    _refuse_document(name, head)
    while True:
        records = list(_objects(head))
        if wanted is not None and any(has_field(record, wanted) for record in records):
            return wanted
        if records and wanted is None:
            break
        if len(head.data) >= _LOOK_BYTES or not head.extend():
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


def first_object(head: FileStart) -> dict[str, Any] | None:
    """Return the object on the first line that holds something, None where that is no object."""
    return object_in(head.text.lstrip().partition(b"\n")[0])


def _refuse_document(name: str, head: FileStart) -> None:
    """Refuse an array, or objects that span lines: of those only what stands alone would count."""
    start = head.text.lstrip()
    first_line, _, rest = start.partition(b"\n")
    hint = "one object a line is: jq -c '.[]'"
    if first_line.startswith(b"[") and first_line.strip() != b"[]":
        raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    for line in start[:SAMPLE_BYTES].split(b"\n"):
        if line.rstrip().endswith(b",") and object_in(line.rstrip()[:-1]) is not None:
            raise SourceError(f"{name}: a JSON array cannot be read", hint=hint)
    if first_line.strip() == b"{" and re.match(rb'\s*["}]', rest):
        hint = "one object a line is: jq -c ."
        raise SourceError(f"{name}: holds JSON objects that span lines", hint=hint)


def _objects(head: FileStart) -> Iterator[dict[str, Any]]:
    """Yield the objects among the lines that were read whole."""
    lines = head.text.split(b"\n")
    if not head.complete:
        lines.pop()
    yield from (record for line in lines if (record := object_in(line)) is not None)


def object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object that some bytes are, None where they are none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def has_field(record: Mapping[str, Any], wanted: str) -> bool:
    """Tell whether a record has the field, be it null or inside of something null."""
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
    """Yield the dotted paths of what is no object."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from (f"{name}.{path}" for path in _paths(value))
        else:
            yield name
