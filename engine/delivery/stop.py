"""Why a delivery ends before its export does."""

from dataclasses import dataclass

from engine.errors import CohortSyncError, ExitStatus


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a delivery ended before its export did."""

    exit_status: ExitStatus
    reason: str
    hint: str | None = None
    error: CohortSyncError | None = None
    """The error behind it, if that is what it was."""

    @classmethod
    def of(cls, error: CohortSyncError) -> "Stop":
        """Make an error the reason."""
        return cls(error.exit_status, error.message, error.hint, error)
