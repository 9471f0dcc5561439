"""The snapshots of a cohort, formatted for people and for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from engine.errors import LedgerError
from engine.ledger.snapshot_records import Generation
from engine.report.accounts import timestamp
from engine.report.files import files_document
from engine.source.source_file import SourceFile


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """One snapshot; its fields are the keys of the JSON document."""

    generation: int
    made_at: str
    """ISO 8601, in UTC."""
    origin: str
    """What created it: a run, `adopt`, `import` or `reconcile`."""
    members: int
    """Uids that are in the cohort."""
    unknown: int
    """Uids that may or may not be in it."""
    out: int
    """Uids that were removed from it."""
    is_kept: bool
    """Whether its uids are still stored."""
    sha256: str
    """The digest of its uids, in hexadecimal."""
    lifted: Sequence[Mapping[str, Any]]
    """The guards that were lifted to make it: guard, bound, user, host, reason."""

    @classmethod
    def of(cls, generation: Generation) -> Self:
        """Return the entry of a snapshot in the ledger."""
        return cls(
            generation.number,
            timestamp(generation.made.utc_ns),
            generation.origin,
            generation.members,
            generation.unknown,
            generation.out,
            generation.file is not None,
            generation.digest.hex(),
            tuple(generation.lifted),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        return document | {"lifted": list(self.lifted)}


@dataclass(frozen=True, slots=True)
class VerifiedSnapshot:
    """A snapshot whose stored uids were read and compared with its digest."""

    entry: SnapshotEntry
    problem: str | None
    """The damage to it; None if it is unchanged since it was made."""

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return self.entry.to_dict() | {"verdict": self.problem or "whole"}


def damage_in(snapshots: Sequence[VerifiedSnapshot]) -> LedgerError | None:
    """Return an error that names the snapshots that changed since they were made, if any."""
    broken = [str(each.entry.generation) for each in snapshots if each.problem]
    if not broken:
        return None
    return LedgerError(
        f"changed since it was made: generation {', '.join(broken)}",
        hint="`cohortsync mirror` with --trust goes on from one that is whole",
    )


@dataclass(frozen=True, slots=True)
class SnapshotOfList:
    """A snapshot that was made from a list, and what was read of the list."""

    entry: SnapshotEntry
    rows_read: int
    blank: int
    invalid: int
    uids: int
    """Rows with a uid, including duplicates: rows_read = blank + invalid + uids."""
    files: Sequence[SourceFile]

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        rows = {"read": self.rows_read, "blank": self.blank, "invalid": self.invalid}
        return self.entry.to_dict() | {"rows": rows} | files_document(self.files)


@dataclass(frozen=True, slots=True)
class SnapshotComparison:
    """A list compared with a snapshot."""

    counts: Mapping[str, Any]
    """Uids and rows by kind, and a few uids of each difference, in the form of `--json`."""
    files: Sequence[SourceFile]
    """The files of the list."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return dict(self.counts) | files_document(self.files)
