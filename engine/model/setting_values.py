"""Types of values that TOML has not: a time of day, a duration, a time zone, a list of texts."""

import re
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import PlainValidator, WithJsonSchema

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _time_of_day(value: object) -> time:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return time(int(match[1]), int(match[2]))


def _duration(value: object) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _time_zone(value: object) -> ZoneInfo:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - pydantic makes a ValidationError of it
    try:
        return ZoneInfo(value)
    except (OSError, KeyError, ValueError):  # no such file, a folder of zones, or no path at all
        raise ValueError from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and value:
        return tuple(map(_text, value))
    return (_text(value),)


def _texts_or_table(value: object) -> tuple[str, ...]:
    return () if isinstance(value, dict) else _texts(value)


def _list_of_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - pydantic makes a ValidationError of it
    return tuple(map(_text, value))


def _command(value: object) -> tuple[str, ...]:
    if not value:
        raise ValueError
    program, *arguments = _list_of_texts(value)
    return (program, *arguments)


def _owner_texts(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - pydantic makes a ValidationError of it
    return {_text(owner): _texts(each) for owner, each in value.items()}


def _read_by(read: Callable[[object], object], schema: dict[str, Any]) -> tuple[Any, Any]:
    return PlainValidator(read), WithJsonSchema(schema)


SOME_TEXT = {"type": "string", "pattern": r"\S"}
"""The JSON Schema of text that is not blank."""
_SOME_TEXTS = {"type": "array", "items": SOME_TEXT, "minItems": 1}

TimeOfDay = Annotated[
    time, *_read_by(_time_of_day, {"type": "string", "pattern": f"^{_TIME.pattern}$"})
]
"""`HH:MM`."""
Duration = Annotated[
    timedelta, *_read_by(_duration, {"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
"""A number of minutes, hours or days: `90m`, `24h`, `7d`."""
TimeZone = Annotated[ZoneInfo, *_read_by(_time_zone, SOME_TEXT)]
"""A name of the IANA database: `Europe/Berlin`."""
Text = Annotated[str, *_read_by(_text, SOME_TEXT)]
"""Text that is not blank."""
Texts = Annotated[tuple[str, ...], *_read_by(_texts, {"anyOf": [SOME_TEXT, _SOME_TEXTS]})]
"""One text or several, none blank."""
TextsOrTable = Annotated[
    tuple[str, ...], *_read_by(_texts_or_table, {"anyOf": [SOME_TEXT, _SOME_TEXTS]})
]
"""One text or several; a table, which is read on its own, stands for none."""
TextList = Annotated[
    tuple[str, ...], *_read_by(_list_of_texts, {"type": "array", "items": SOME_TEXT})
]
OwnerTexts = Annotated[
    Mapping[str, tuple[str, ...]],
    *_read_by(
        _owner_texts,
        {"type": "object", "additionalProperties": {"anyOf": [SOME_TEXT, _SOME_TEXTS]}},
    ),
]
"""One text or several for each name."""
Command = Annotated[tuple[str, ...], *_read_by(_command, _SOME_TEXTS)]
"""A program and its arguments."""

SHOULD_BE_TIME = {"should_be": 'a time of day as "HH:MM", from "00:00" to "23:59"'}
SHOULD_BE_DURATION = {"should_be": 'a duration in minutes, hours or days, as "90m", "24h" or "7d"'}
SHOULD_BE_ZONE = {"should_be": 'a time zone of this machine, as "Europe/Berlin" or "UTC"'}
SHOULD_BE_TEXT = {"should_be": "text in quotes that is not blank"}
SHOULD_BE_TEXTS = {"should_be": "text, or a list of texts, none of them blank"}
SHOULD_BE_TEXTS_OR_QUERY = {
    "should_be": "text, a list of texts, or a table with `connection` and `query`, `delta` or "
    "`iceberg`"
}
SHOULD_BE_LIST = {"should_be": "a list of texts, none of them blank"}
SHOULD_BE_COMMAND = {"should_be": "a list of texts: a program and its arguments"}
