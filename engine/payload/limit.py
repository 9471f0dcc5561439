"""The payload size limit: as configured, and as lowered by 413 responses."""

from dataclasses import dataclass
from typing import Self

from engine.errors import UsageError
from engine.payload.envelope import Envelope
from engine.payload.member_json import MEMBER_BYTES


@dataclass(slots=True)
class Limit:
    """The payload size limit, shared by all batches cut for one API."""

    configured_bytes: int
    """The configured limit; a larger payload is never sent."""
    payload_bytes: int
    """The current limit; a 413 response lowers it for later batches."""

    @classmethod
    def of(cls, payload_bytes: int) -> Self:
        """Return a limit with its configured value."""
        return cls(payload_bytes, payload_bytes)


def refuse_narrow_limit(envelope: Envelope, payload_bytes: int) -> None:
    """Raise `UsageError` if the limit leaves no room for a uid after the envelope."""
    if payload_bytes < len(envelope) + MEMBER_BYTES:
        raise UsageError(
            f"limits.payload_bytes = {payload_bytes} leaves no room for a uid: the request "
            f"takes {len(envelope)} bytes without members",
            hint="raise limits.payload_bytes, or shorten the cohort's description",
        )
