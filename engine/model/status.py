"""The statuses of batches and runs: each status is declared here, once."""

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


class RunStatus(StrEnum):
    """How a run stands. The values are what the ledger keeps, and what reports show."""

    RUNNING = "running"
    FINISHED = "finished"
    INCOMPLETE = "incomplete"
    """Stopped early, by a signal, an outage, or the end of its process."""
    REFUSED = "refused"
    """The API refused it."""
    GUARDED = "guarded"
    """A guard stopped it before anything was sent."""
    SOURCE_FAILED = "source_failed"
    """The export could not be read to its end."""
    FAILED = "failed"
    """Something on this machine ended it: a proxy's password, a lost snapshot, a bug."""
    UNBALANCED = "unbalanced"
    """Its accounts do not balance."""
    ABANDONED = "abandoned"
    """A later run of the same command took its place."""
    PLANNED = "planned"
    """A plan of which nothing is sent yet."""
    CANARY = "canary"
    """A plan of which a part is sent."""
    SHADOW = "shadow"
    """A plan that is never sent."""


RESUMABLE = (
    RunStatus.RUNNING,
    RunStatus.INCOMPLETE,
    RunStatus.REFUSED,
    RunStatus.SOURCE_FAILED,
    RunStatus.FAILED,
)
"""The same command goes on with a run of such a status."""
