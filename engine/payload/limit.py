"""The limit on the size of a payload: as configured, and as responses of 413 have lowered it."""

from dataclasses import dataclass
from typing import Self

from engine.errors import UsageError
from engine.payload.envelope import Envelope
from engine.payload.member_json import MEMBER_BYTES


@dataclass(slots=True)
class Limit:
    """How large a payload may be: one limit for all that is cut for one API."""

    configured_bytes: int
    """The limit that was configured: what is larger can never be sent."""
    payload_bytes: int
    """The limit in force, which a response of 413 lowers for the batches to come."""

    @classmethod
    def of(cls, payload_bytes: int) -> Self:
        """Return a limit as it was configured."""
        return cls(payload_bytes, payload_bytes)


def refuse_narrow_limit(envelope: Envelope, payload_bytes: int) -> None:
    """Raise `UsageError` if not even one short uid fits beside the envelope."""
    if payload_bytes < len(envelope) + MEMBER_BYTES:
        raise UsageError(
            f"limits.payload_bytes = {payload_bytes} leaves no room for a uid: the request "
            f"takes {len(envelope)} bytes without members",
            hint="raise limits.payload_bytes, or shorten the cohort's description",
        )
