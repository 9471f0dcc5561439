"""What the ledger says of one uid, and of the cohort that it may be in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CohortRun:
    """A run that changed a cohort."""

    number: int
    name: str
    started_utc_ns: int


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A generation of a cohort's snapshot, and the name of its file; None once it is dropped."""

    generation: int
    file: str | None


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
class ExternalGeneration:
    """A snapshot that no run made: a command took it from a list."""

    generation: int
    origin: str
    made_utc_ns: int


@dataclass(frozen=True, slots=True)
class UnrecordedPushes:
    """The pushes of a cohort whose uids no snapshot knows."""

    count: int
    last_name: str
    last_action: str
    last_status: str
    last_started_utc_ns: int


@dataclass(frozen=True, slots=True)
class UidRejection:
    """A run's rejection of a uid."""

    run: str
    at_utc_ns: int
    reason: str
    request_id: str | None
