"""What the ledger says of one uid."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UidAttempt:
    """The last attempt to send the batch that held a uid."""

    batch: int
    attempt: int
    outcome: str | None
    """None as long as it is under way, or where its process died."""
    at_utc_ns: int
    """When it was sent; when it was intended where that is unknown."""
    http_status: int | None
    request_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class UidRejection:
    """A run's rejection of a uid."""

    run: str
    at_utc_ns: int
    reason: str
    request_id: str | None
