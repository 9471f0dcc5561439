"""The statuses of batches and runs."""

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
    """The status of a run; the ledger stores the values, and reports show them."""

    RUNNING = "running"
    FINISHED = "finished"
    INCOMPLETE = "incomplete"
    """Stopped early by a signal, an outage or the end of its process."""
    REFUSED = "refused"
    """The API refused the run."""
    GUARDED = "guarded"
    """A guard stopped the run before anything was sent."""
    SOURCE_FAILED = "source_failed"
    """The export could not be read to its end."""
    FAILED = "failed"
    """A local problem ended the run: a proxy's password, a lost snapshot, a bug."""
    UNBALANCED = "unbalanced"
    """Its accounts do not balance."""
    ABANDONED = "abandoned"
    """A later run of the same command replaced it."""
    PLANNED = "planned"
    """A plan that is not sent yet."""
    CANARY = "canary"
    """A plan that is partly sent."""
    SHADOW = "shadow"
    """A plan that is never sent."""


class CohortStatus(StrEnum):
    """The status of a cohort that a sync did not end by a run; otherwise it is a `RunStatus`."""

    UP_TO_DATE = "up_to_date"
    """An earlier run has completed the same export: nothing is sent."""
    MISSING = "missing"
    """The export is not there."""
    NOT_BEGUN = "not_begun"
    """The sync was stopped, or its deadline passed, before the cohort began."""
    DRY_RUN = "dry_run"
    """A push of which nothing was sent, because the sync is a dry run."""
    FAILED = "failed"
    """It could not begin, for example because of the export or another process."""


RESUMABLE = (
    RunStatus.RUNNING,
    RunStatus.INCOMPLETE,
    RunStatus.REFUSED,
    RunStatus.SOURCE_FAILED,
    RunStatus.FAILED,
)
"""The statuses of runs that the same command continues."""
