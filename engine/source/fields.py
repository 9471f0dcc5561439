"""Which field of an ndjson file holds the uids."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from engine.errors import UsageError
from engine.source.head import Head
from engine.source.header import listed, missing

_LOOK_BYTES = 1 << 20
"""How much of a file is searched for a field before it is called missing."""


def field_of(name: str, head: Head, wanted: str | None) -> str:
    """Return the wanted field, or the only one there is.

    Fields may be absent from a record, so one is missing only where none of the first megabyte's
    records has it: then `SourceError` is raised. `UsageError` where the field has to be named.
    """
    while True:
        records = list(_objects(head))
        if wanted is not None and any(_has(record, wanted) for record in records):
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


def _objects(head: Head) -> Iterator[dict[str, Any]]:
    """Yield the objects among the lines that were read whole."""
    lines = head.text.split(b"\n")
    if not head.complete:
        lines.pop()
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def _has(record: Mapping[str, Any], wanted: str) -> bool:
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
