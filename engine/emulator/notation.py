"""Parses the notation of faults in flags and in items of a plan file."""

import re
from typing import Final

from engine.emulator.errors import EmulatorError
from engine.emulator.faults import FaultKind, FaultShare, PlannedFault

_NUMBER: Final = r"(\d*\.?\d+)"
_SHARE: Final = re.compile(rf"([^=]*)={_NUMBER}(?::{_NUMBER}(?::{_NUMBER})?)?", re.ASCII)
_RANGE: Final = re.compile(r"(\d+)(?:(-)(\d*))?", re.ASCII)
_FIELDS: Final = frozenset({"request", "fault", "applied", "seconds"})


def parse_share(text: str) -> FaultShare:
    """Read `500=0.03`, `500=0.03:0.5` (half applied first) or `hang=0.01:0:30` (for 30 s)."""
    match = _SHARE.fullmatch(text)
    if match is None:
        raise EmulatorError(
            f"'{text}' is no fault and its share such as 500=0.03, 500=0.03:0.5 or hang=0.01:0:30"
        )
    kind, share, applied, seconds = match.groups()
    return FaultShare(
        parse_kind(kind),
        float(share),
        float(applied or 0),
        None if seconds is None else float(seconds),
    )


def parse_planned(text: str) -> PlannedFault:
    """Read `413=70`, `429=100-150` or `401=500-`: a fault and its requests."""
    kind, _, requests = text.partition("=")
    first, last = parse_range(requests)
    return PlannedFault(parse_kind(kind), first, last)


def parse_item(item: object) -> PlannedFault:
    """Read an item of a plan file; `read_plan` describes its content."""
    if not isinstance(item, dict) or not {"request", "fault"} <= item.keys() <= _FIELDS:
        raise EmulatorError("a fault has 'request', 'fault' and maybe 'applied' and 'seconds'")
    kind = parse_kind(str(item["fault"]))
    first, last = parse_range(str(item["request"]))
    applied, seconds = item.get("applied", False), item.get("seconds")
    if not isinstance(applied, bool):
        raise EmulatorError("'applied' is true or false")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise EmulatorError("'seconds' is a number")
    return PlannedFault(kind, first, last, applied, seconds)


def parse_kind(text: str) -> FaultKind:
    """Read the name of a fault."""
    try:
        return FaultKind(text)
    except ValueError:
        raise EmulatorError(f"'{text}' is none of the faults {', '.join(FaultKind)}") from None


def parse_range(text: str) -> tuple[int, int | None]:
    """Read `7`, `7-9` or `7-` as the first and the last request; None means no end."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise EmulatorError(f"'{text}' is no request or range of them such as 7, 7-9 or 7-")
    first, dash, last = match.groups()
    if not dash:
        return int(first), int(first)
    return int(first), int(last) if last else None
