"""What a source yields: consecutive records of one file, with the uids in them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Large; the command line and the ledger do not need it.
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Skipped:
    """Consecutive records without a usable uid, all for the same reason."""

    record: int
    """Number of the first record in its file, from 1; a header line is not a record."""
    count: int
    """Number of consecutive records."""
    reason: str
    """The reason that `cohortsync rejects` shows; one that begins with `BLANK` is not an error."""

    @property
    def is_blank(self) -> bool:
        """Whether the records hold no uid; otherwise they are invalid."""
        return self.reason.startswith(BLANK)


BLANK = "blank"
"""The reason of a record whose uid is missing, null or only white space (`str.isspace`)."""

HEADER_AGAIN = f"{BLANK} (the header again)"
"""The reason of a record that equals the header, as in files that were concatenated."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one file, in order, without gaps.

    `records == len(uids) + sum(s.count for s in skipped)`. The reader counts `records` while it
    reads; it is not computed from the other two.
    """

    file: str
    """The file's name, as shown to the user."""
    first_record: int
    """Number of the block's first record in its file, from 1."""
    records: int
    """Number of records in the block, by the reader's own count."""
    uids: "pa.StringArray"
    """The uids in the order of the records: valid UTF-8, no nulls, type `pa.string()`."""
    skipped: tuple[Skipped, ...]
    """Blank and invalid records, ascending and disjoint."""
