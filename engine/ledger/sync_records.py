"""What the ledger records of each cohort in each sync, including cohorts that began no run."""

from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """One cohort in one sync: what was intended, and how it ended."""

    sync: str
    """The name of the sync; all its cohorts share it, also those of other workspaces."""
    cohort: str
    """The cohort's key in the configuration."""
    partner: str
    cohort_id: str
    started_utc_ns: int
    """When the sync began."""
    date: str
    """The date that the names of its export's files mean, as YYYY-MM-DD."""
    finished_utc_ns: int | None = None
    """When the cohort ended; None while it has not, and if the process died before."""
    status: str | None = None
    """A value of `engine.model.status.CohortStatus`; None as `finished_utc_ns` is."""
    exit_status: int | None = None
    reason: str | None = None
    run: str | None = None
    """The run's name; None if the cohort began no run."""
    members: int | None = None
    """Members of a mirrored cohort afterwards, by its snapshot; None for a push, and if unknown."""

    @property
    def last_moment_utc_ns(self) -> int:
        """When the cohort ended; the begin of a sync that has not ended, or whose process died."""
        return self.started_utc_ns if self.finished_utc_ns is None else self.finished_utc_ns

    def ended(self, utc_ns: int, **values: Any) -> Self:  # noqa: ANN401 - as the fields have them
        """Return the record of a cohort that ended at `utc_ns`, with further values."""
        return replace(self, finished_utc_ns=utc_ns, **values)
