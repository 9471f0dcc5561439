"""What a source yields: consecutive records of one file, with the uids in them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Large, and the command line and the ledger read none.
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Skipped:
    """Consecutive records without a usable uid, all for the same reason."""

    record: int
    """Number of the first of them in its file, from 1; a header line is not a record."""
    count: int
    """How many follow each other."""
    reason: str
    """Why, in words fit for `cohortsync rejects`; one that begins with `BLANK` is not a fault."""

    @property
    def is_blank(self) -> bool:
        """Whether the records just hold no uid; otherwise they are invalid."""
        return self.reason.startswith(BLANK)


BLANK = "blank"
"""The reason of a record whose uid is missing, null or nothing but white space (`str.isspace`)."""

HEADER_AGAIN = f"{BLANK} (the header again)"
"""The reason of a record that equals the header, as where files were put together."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one export file, in order; none is left out.

    `records == len(uids) + sum(s.count for s in skipped)`, where `records` is what the reader
    counted while it read, not the sum of the other two.
    """

    file: str
    """The export file's name, as it is shown to people."""
    first_record: int
    """Number of the block's first record in its file, from 1."""
    records: int
    """How many records the block covers, by the reader's own count."""
    uids: "pa.StringArray"
    """The planned uids in export order: valid UTF-8, no nulls, type `pa.string()`."""
    skipped: tuple[Skipped, ...]
    """Blank and invalid records, ascending and disjoint."""
