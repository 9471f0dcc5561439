"""Reads the emulator's files: lists of uids and plans of faults."""

import tomllib
from pathlib import Path
from typing import Any

import orjson

from engine.emulator.errors import EmulatorError
from engine.emulator.faults import PlannedFault
from engine.emulator.notation import parse_item


def read_uids(path: Path) -> frozenset[str]:
    """Read one uid per line; empty lines are skipped."""
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EmulatorError(f"{path}: not UTF-8 text") from None
    return frozenset(line.removesuffix("\r") for line in text.split("\n")) - {""}


def read_plan(path: Path) -> tuple[PlannedFault, ...]:
    """Read a plan: a JSON list of items, or the list `faults` of a JSON object or a TOML file.

    An item is `{"request": 7 or "7-9" or "7-", "fault": "500", "applied": true, "seconds": 2}`; the
    last two are optional.
    """
    content = _read(path)
    try:
        plan: Any = (
            tomllib.loads(content.decode()) if path.suffix == ".toml" else orjson.loads(content)
        )
    except ValueError as error:  # of either parser, or of the decoding
        raise EmulatorError(f"{path}: cannot be parsed ({error})") from None
    if isinstance(plan, dict):
        plan = plan.get("faults")
    if not isinstance(plan, list):
        raise EmulatorError(f"{path}: holds no list of faults")
    faults = []
    for number, item in enumerate(plan, 1):
        try:
            faults.append(parse_item(item))
        except EmulatorError as error:
            raise EmulatorError(f"{path}, fault {number}: {error.message}") from None
    return tuple(faults)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EmulatorError(f"{path}: cannot be read ({error.strerror})") from None
