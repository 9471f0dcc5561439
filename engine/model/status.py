"""Where a batch stands."""

from enum import StrEnum


class BatchState(StrEnum):
    """Where a batch stands in the books."""

    PENDING = "pending"
    """Not delivered, and certainly not applied."""
    UNCONFIRMED = "unconfirmed"
    """Not accepted, but may have been applied."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SPLIT = "split"
    """Replaced by its parts."""
