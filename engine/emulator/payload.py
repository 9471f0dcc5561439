"""Reads a request's body by the API's schema, fast enough not to limit the emulator.

A compact body is checked without an object for each uid. Every quote of its members must be at a
place where `{"uid":"…"},{"uid":"…"}` has one, which a count proves. The full parser reads every
other body, and decides. Both give the same answer for every body, and a test compares them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import orjson

from engine.emulator.answers import MALFORMED, Refusal, invalid, missing

RESTRICTED: Final = frozenset('|*?\\:<>=$"')
"""Characters that a cohort's name may not contain."""

_TEXT: Final = "must be a string that is not empty"
_MEMBERS: Final = b'"members":['
_FIRST: Final = b'{"uid":"'
_BETWEEN: Final = b'"},{"uid":"'
_LAST: Final = b'"}]}}'
_QUOTE: Final = ord('"')
_SPACE: Final = 0x20


class Action(StrEnum):
    """The action to take on the members."""

    ADD = "add_members"
    REMOVE = "remove_members"


@dataclass(frozen=True, slots=True)
class Payload:
    """A valid body."""

    action: Action
    partner: str
    cohort_id: str
    cohort_name: str
    description: str | None
    count: int
    """Number of members, including duplicates."""
    members: bytes | list[str]
    """The uids, or a compact body's raw bytes from the first uid to the last, without quotes."""

    def uids(self) -> list[str]:
        """Return the uids in order."""
        if isinstance(self.members, list):
            return self.members
        return self.members.decode().split(_BETWEEN.decode())


def read_payload(body: bytes) -> Payload | Refusal:
    """Check a body; return the payload, or the refusal for the first invalid field."""
    compact = _split_compact(body)
    if compact is None:
        return parse_payload(body)
    envelope, members = compact
    return _judge(envelope, members)


def parse_payload(body: bytes) -> Payload | Refusal:
    """Check a body with the full parser."""
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError:
        return MALFORMED
    return _judge(envelope, None)


def _split_compact(body: bytes) -> tuple[Any, bytes] | None:
    """Split a compact body into its envelope without members, and the members; None for others.

    Without a backslash the text `"members"` can only be that key, and its first occurrence is the
    only one before the list. So, with well-formed members, the envelope with an empty list in that
    place is valid JSON if and only if the whole body is.
    """
    start = body.find(b'"members"')
    first = start + len(_MEMBERS)
    begin = first + len(_FIRST)
    end = len(body) - len(_LAST)
    if (
        start < 0
        or begin > end
        or not body.endswith(_LAST)
        or not body.startswith(_MEMBERS + _FIRST, start)
        or b"\\" in body
    ):
        return None
    # One byte of quote on either side, so that an empty uid shows as two quotes in a row.
    edges = np.frombuffer(body, np.uint8)[begin - 1 : end + 1]
    quotes = edges == _QUOTE
    members = body[begin:end]
    if (
        edges.min() < _SPACE
        or bool((quotes[1:] & quotes[:-1]).any())
        or np.count_nonzero(quotes) != 4 * members.count(_BETWEEN) + 2
    ):
        return None
    try:
        if not members.isascii():
            members.decode()
        envelope = orjson.loads(body[:first] + b"]}}")
    except ValueError:
        return None
    return envelope, members


def _judge(envelope: object, compact: bytes | None) -> Payload | Refusal:
    """Check an envelope, and its members unless they are compact and so known to be valid."""
    if not isinstance(envelope, dict):
        return MALFORMED
    refusal = _check_envelope(envelope)
    if refusal is not None:
        return refusal
    parameters = envelope["parameters"]
    members = _read_members(parameters["members"]) if compact is None else compact
    if isinstance(members, Refusal):
        return members
    return Payload(
        action=Action(envelope["action"]),
        partner=envelope["partner"],
        cohort_id=parameters["cohort_id"],
        cohort_name=parameters["cohort_name"],
        description=parameters.get("cohort_description"),
        count=members.count(_BETWEEN) + 1 if isinstance(members, bytes) else len(members),
        members=members,
    )


def _check_envelope(envelope: dict[str, Any]) -> Refusal | None:
    """Return the refusal for the first invalid field, in the API's order; None if all are valid."""
    for name in ("action", "partner", "parameters"):
        if name not in envelope:
            return missing(name)
    if envelope["action"] not in tuple(Action):
        return invalid("action", "must be add_members or remove_members")
    if not _is_text(envelope["partner"]):
        return invalid("partner", _TEXT)
    if not isinstance(envelope["parameters"], dict):
        return invalid("parameters", "must be an object")
    return _check_parameters(envelope["parameters"])


def _check_parameters(parameters: dict[str, Any]) -> Refusal | None:
    for name in ("cohort_name", "cohort_id", "members"):
        if name not in parameters:
            return missing(name)
    for name in ("cohort_name", "cohort_id"):
        if not _is_text(parameters[name]):
            return invalid(name, _TEXT)
    if not RESTRICTED.isdisjoint(parameters["cohort_name"]):
        return invalid("cohort_name", "contains a restricted character")
    if not isinstance(parameters.get("cohort_description", ""), str):
        return invalid("cohort_description", "must be a string")
    if not isinstance(parameters["members"], list):
        return invalid("members", "must be an array")
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _read_members(members: list[Any]) -> list[str] | Refusal:
    uids = []
    for member in members:
        if not isinstance(member, dict):
            return invalid("members", "must hold objects with a uid")
        if "uid" not in member:
            return missing("uid")
        uid = member["uid"]
        if not _is_text(uid):
            return invalid("uid", _TEXT)
        uids.append(uid)
    return uids
