"""What the emulator reads from disk: lists of uids, and plans of faults."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import orjson

from engine.emulator.errors import EmulatorError
from engine.emulator.faults import FaultKind, PlannedFault

_RANGE: Final = re.compile(r"(\d+)(?:(-)(\d*))?")
_FIELDS: Final = frozenset({"request", "fault", "applied", "seconds"})


def read_uids(path: Path) -> frozenset[str]:
    """Read a uid a line, empty lines aside."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EmulatorError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise EmulatorError(f"{path} is not UTF-8 text.") from None
    return frozenset(line.removesuffix("\r") for line in text.split("\n")) - {""}


def read_range(text: str) -> tuple[int, int | None]:
    """Read `7`, `7-9` or `7-` as the first and the last request, None for no end."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise EmulatorError(f"'{text}' is no request or range of them such as 7, 7-9 or 7-.")
    first, dash, last = match.groups()
    return int(first), (int(last) if last else None) if dash else int(first)


def read_plan(path: Path) -> tuple[PlannedFault, ...]:
    """Read a plan: a JSON list, or `faults` of a JSON object or a TOML file, of such items.

    `{"request": 7 or "7-9" or "7-", "fault": "500", "applied": true, "seconds": 2}`, the last two
    only where they are wanted.
    """
    try:
        content = path.read_bytes()
        plan: Any = (
            tomllib.loads(content.decode()) if path.suffix == ".toml" else orjson.loads(content)
        )
    except OSError as error:
        raise EmulatorError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:  # of either parser, or of the decoding
        raise EmulatorError(f"{path} cannot be parsed: {error}.") from None
    if isinstance(plan, dict):
        plan = plan.get("faults")
    if not isinstance(plan, list):
        raise EmulatorError(f"{path} holds no list of faults.")
    faults = []
    for number, item in enumerate(plan, 1):
        try:
            faults.append(_read_fault(item))
        except EmulatorError as error:
            raise EmulatorError(f"{path}, fault {number}: {error.message}") from None
    return tuple(faults)


def _read_fault(item: object) -> PlannedFault:
    if not isinstance(item, dict) or not {"request", "fault"} <= item.keys() <= _FIELDS:
        raise EmulatorError("A fault has 'request', 'fault' and maybe 'applied' and 'seconds'.")
    try:
        kind = FaultKind(str(item["fault"]))
    except ValueError:
        raise EmulatorError(
            f"'{item['fault']}' is none of the faults {', '.join(FaultKind)}."
        ) from None
    first, last = read_range(str(item["request"]))
    applied, seconds = item.get("applied", False), item.get("seconds")
    if not isinstance(applied, bool):
        raise EmulatorError("'applied' is true or false.")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise EmulatorError("'seconds' is a number.")
    return PlannedFault(kind, first, last, applied, seconds)
