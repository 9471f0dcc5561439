"""The status of a batch."""

from enum import StrEnum


class BatchState(StrEnum):
    """The status of a batch in the accounts."""

    PENDING = "pending"
    """Not delivered, and certainly not applied."""
    UNCONFIRMED = "unconfirmed"
    """Not accepted, but may have been applied."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SPLIT = "split"
    """Replaced by its parts."""
