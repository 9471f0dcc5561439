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
    """Why, as `cohortsync rejects` shows it; one that begins with `BLANK` is not an error."""

    @property
    def is_blank(self) -> bool:
        """Whether the records hold no uid; otherwise they are invalid."""
        return self.reason.startswith(BLANK)


BLANK = "blank"
"""The reason of a record whose uid is missing, null or nothing but white space (`str.isspace`)."""

HEADER_AGAIN = f"{BLANK} (the header again)"
"""The reason of a record that equals the header, as in files that were concatenated."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one file, in order; none is left out.

    `records == len(uids) + sum(s.count for s in skipped)`, where `records` is what the reader
    counted while it read, not the sum of the other two.
    """

    file: str
    """The file's name, as it is shown to people."""
    first_record: int
    """Number of the block's first record in its file, from 1."""
    records: int
    """How many records the block covers, by the reader's own count."""
    uids: "pa.StringArray"
    """The uids in the order of the records: valid UTF-8, no nulls, type `pa.string()`."""
    skipped: tuple[Skipped, ...]
    """Blank and invalid records, ascending and disjoint."""
