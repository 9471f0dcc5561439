"""The records of a mirror: the acknowledged uids, the wanted uids, and their difference."""

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.ledger.plan_records import OperationCounts

if TYPE_CHECKING:  # Large; the command line does not need it.
    import pyarrow as pa


class UidState(IntEnum):
    """The state of one uid's membership, as a snapshot file holds it."""

    IN = 1
    """Its add was accepted, and no remove may have been applied since."""
    MAY_BE_IN = 2
    """Unknown: it was not certainly a member, and an add may have been applied last."""
    OUT = 3
    """Its remove was accepted recently; kept until the API has settled."""
    MAY_BE_OUT = 4
    """Unknown: it was or may have been a member, and a remove may have been applied last."""


UNKNOWN = (UidState.MAY_BE_IN, UidState.MAY_BE_OUT)
"""If wanted, such a uid is added; otherwise it is removed."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A uid that is a member, and the run since which it is."""

    run: int
    uid: bytes


@dataclass(frozen=True, slots=True)
class Census:
    """The number of uids of a snapshot in each state."""

    members: int = 0
    """In state `IN`."""
    unknown: int = 0
    """In one of the states `UNKNOWN`."""
    out: int = 0

    @property
    def total(self) -> int:
        """Rows of the file."""
        return self.members + self.unknown + self.out


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of what the API acknowledged, in a Parquet file or in a database.

    Columns: `uid` binary, unique; `state` uint8, a `UidState`; `run` int32, the ledger's number of
    the run in which the uid last changed or may have changed.
    """

    path: Path
    census: Census
    digest: bytes
    """SHA-256 of the file, or of the record that stands for rows in a database."""


class UidList(Protocol):
    """The rows of an export or a list, which are written once and then compared."""

    def write(self, rows: "pa.RecordBatch") -> None:
        """Add rows; raises `IncompleteError` or `LedgerError` if earlier ones can't be written."""

    def finish(self) -> None:
        """End the writing; raises as `write`."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An export that was read completely, its uids in a spool or a table."""

    spool: UidList
    rows_read: int
    """By the reader's own count."""
    blank: int
    invalid: int
    uids: int
    """Rows that hold a uid, duplicates included: rows of the spool."""
    uid_bytes: int
    """Bytes of those uids together."""


@dataclass(frozen=True, slots=True)
class PlannedOperation(OperationCounts):
    """The uids of one operation of a plan, in the order of sending, in a file."""

    path: Path = field(kw_only=True)
    """Parquet: `uid` binary, unique; a row's number is the uid's place in the operation."""
    doubtful: int = 0
    """Uids to be sent whose membership is unknown."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between the export and the snapshot.

    `staged.uids == excluded + duplicate + unchanged + adds.planned + adds.known`; of a list of
    changes, the uids of both its lists are these and `removes.planned + removes.known`.
    """

    adds: PlannedOperation
    removes: PlannedOperation
    unchanged: int
    """Wanted uids that are members already; of a list of changes, uids that are as it says."""
    duplicate: int
    """Rows whose uid is in an earlier row, too; of a list of changes, in a later one."""
    resends: PlannedOperation
    """Some of the unchanged uids, which are added once more."""
    resent_through: Member | None
    """The last of those; None if the round ends with them."""
    excluded: int = 0
    """Rows whose uid is in the exclusion list; of a list of changes, without those of uids that are
    removed."""


@dataclass(frozen=True, slots=True)
class HeldChanges:
    """Whether all adds, or all removes, wait: it is unknown what they might reverse."""

    adds: bool = False
    removes: bool = False


NOTHING_HELD = HeldChanges()
