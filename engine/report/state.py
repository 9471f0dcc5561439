"""What the commands on the state folder have done, for people and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.report.accounts import SCHEMA_VERSION


@dataclass(slots=True)
class Pruned:
    """What `prune` has deleted, or would delete."""

    is_dry_run: bool = False
    runs: int = 0
    attempts: int = 0
    rejects: int = 0
    plans: int = 0
    """Folders with the uids of a plan or of a recorded push."""
    snapshots: int = 0
    sync_records: int = 0
    """Of cohorts in earlier syncs."""
    files: int = 0
    """Other files: left by processes that died, and copies of ledgers from before a migration."""
    file_bytes: int = 0
    """Of the plans, snapshots and other files."""
    ledger_bytes: int = 0
    """By which the ledgers became smaller; 0 for a dry run, which cannot know it."""
    skipped: list[str] = field(default_factory=list)
    """Cohorts that a process works on: the next prune deletes what they do not need."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `prune`."""
        return asdict(self) | {"exit_status": 0, "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True, slots=True)
class StateUsage:
    """The bytes of the files in the state folder, by kind."""

    bytes_by_kind: Mapping[str, int]

    @property
    def total(self) -> int:
        """The bytes of all files."""
        return sum(self.bytes_by_kind.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dict(self.bytes_by_kind) | {"total": self.total}


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made."""

    folder: str
    made_at: str
    ledgers: int
    snapshots: int
    files: int
    bytes: int
    """Of all files, including those that share their bytes with the state folder by hard links."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `backup`."""
        return asdict(self) | {"exit_status": 0, "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True, slots=True)
class Restored:
    """A state that was restored from a backup."""

    backup: str
    backup_made_at: str
    set_aside: str | None
    """The folder that now holds the replaced state; None if there was none."""
    cohorts: Sequence[str]
    """Cohorts whose snapshots are restored: each of their uids is unknown now."""
    abandoned: Sequence[str]
    """Runs and plans that the backup held unfinished: they are not resumed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `restore`."""
        document = asdict(self) | {"cohorts": list(self.cohorts), "abandoned": list(self.abandoned)}
        return document | {"exit_status": 0, "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A run, or a plan, that was closed for good."""

    run: str
    cohort_id: str
    action: str
    unconfirmed: int
    """Uids that may have been applied: their membership stays unknown."""
    pending: int
    """Uids that were certainly not sent."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `abandon`."""
        status = {"status": "abandoned", "exit_status": 0, "reason": None}
        return asdict(self) | status | {"schema_version": SCHEMA_VERSION}
