"""Payloads made from lists of uids, and read back into them, by the JSON alone."""

from collections.abc import Sequence

import orjson
import pyarrow as pa

from engine.payload.envelope import Envelope
from engine.payload.member_json import members_of


def payload_of(envelope: Envelope, uids: Sequence[str]) -> bytes:
    """Return the payload that carries `uids`."""
    return envelope.enclose(members_of(pa.array(uids, pa.string())))


def uids_in(payload: bytes) -> list[str]:
    """Return the uids that a payload carries, in order."""
    return [member["uid"] for member in orjson.loads(payload)["parameters"]["members"]]
