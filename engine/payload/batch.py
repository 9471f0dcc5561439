"""A batch: the uids of one request, its payload, and the places of the uids in the export."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.model.cohort import Operation
from engine.payload.envelope import Envelope
from engine.source.block import Block, Skipped, SkippedKind

if TYPE_CHECKING:  # Large, and the ledger reads no uid.
    import pyarrow as pa

FindPlace = Callable[[int], tuple[str, int] | None]
"""Returns export file and record of the uid at a position of an operation; None if unknown."""


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Uids of one batch from one file, in order."""

    file: str
    count: int
    first_record: int
    """The record number of the first uid if `gaps` were empty."""
    gaps: tuple[tuple[int, int], ...]
    """(i, n): n records without a uid precede the i-th uid of this span."""

    def record(self, index: int) -> int:
        """Return the record number of the `index`-th uid, from 0."""
        return self.first_record + index + sum(n for at, n in self.gaps if at <= index)


@dataclass(frozen=True, slots=True)
class SkippedRows:
    """Consecutive records of one file that plan no uid."""

    file: str
    rows: Skipped


def count_among(skipped: Iterable[SkippedRows], kind: SkippedKind) -> int:
    """Return the number of skipped records of one kind."""
    return sum(each.rows.count for each in skipped if each.rows.kind == kind)


@dataclass(slots=True)
class RowCounter:
    """The rows of an export that have been read so far."""

    records: int = 0
    """By the reader's own count."""
    blank: int = 0
    invalid: int = 0
    excluded: int = 0

    def add(self, block: Block) -> None:
        """Count the rows of a block."""
        self.records += block.records
        for run in block.skipped:
            match run.kind:
                case "blank":
                    self.blank += run.count
                case "invalid":
                    self.invalid += run.count
                case "excluded":
                    self.excluded += run.count


@dataclass(frozen=True, slots=True)
class UidlessRows:
    """Rows without any uid, which therefore no batch records in the ledger."""

    records: int
    """By the reader's own count."""
    skipped: tuple[SkippedRows, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """A payload, its uids, and the values that the ledger records of them."""

    number: int | None
    """Its number in the ledger; None if the ledger does not hold it."""
    envelope: Envelope
    """The parts of its payload other than its uids."""
    operation: Operation
    first_uid: int
    """The position of its first uid in its operation, from 0."""
    uids: "pa.StringArray" = field(repr=False)
    """A copy, so that the export's block is not kept in memory."""
    payload: bytes = field(repr=False)
    """Over the limit only if it holds a single uid that can never fit."""
    digest: bytes
    """SHA-256 of its uids: their byte lengths as little-endian int32, then their bytes."""
    spans: tuple[SourceSpan, ...]
    skipped: tuple[SkippedRows, ...]
    """Records that plan no uid since the previous batch; in the last batch, up to the end."""
    records_through: int
    """Records of the export up to the end of this batch, by the reader's own count."""
    is_last: bool
    """Whether the export ends with this batch."""
    were_rejected: bool = False
    """Whether the API rejected each of its uids in an earlier run."""
    find_place: FindPlace | None = None
    """Finds export file and record of a uid by its position in the operation; for a plan's adds."""

    @property
    def uid_count(self) -> int:
        """The number of uids."""
        return len(self.uids)

    @property
    def blank(self) -> int:
        """The number of skipped records that are blank."""
        return count_among(self.skipped, "blank")

    @property
    def invalid(self) -> int:
        """The number of skipped records that are invalid."""
        return count_among(self.skipped, "invalid")

    @property
    def file_uids(self) -> Mapping[str, int]:
        """The number of uids from each file, by file name."""
        uids: dict[str, int] = {}
        for span in self.spans:
            uids[span.file] = uids.get(span.file, 0) + span.count
        return uids

    def place(self, index: int) -> tuple[str, int]:
        """Return file and record number of the `index`-th uid, from 0.

        The uids of a plan come from its own files, so `find_place` looks up their places in the
        export, which may read a file. If a place is unknown, returns the place in the plan's file.
        Raises `IndexError` if `index` is out of range.
        """
        found = self.find_place(self.first_uid + index) if self.find_place else None
        if found is not None:
            return found
        for span in self.spans:
            if index < span.count:
                return span.file, span.record(index)
            index -= span.count
        raise IndexError(index)


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """The ledger's record of a batch from an earlier execution."""

    number: int
    uid_count: int
    records_through: int
    digest: bytes
    is_last: bool
    is_open: bool
    """Whether any of its uids has yet to be delivered."""
