"""What a source yields: consecutive records of one file, with the uids in them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # Large; the command line and the ledger do not need it.
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Skipped:
    """Consecutive records that plan no uid, all for the same reason."""

    record: int
    """Number of the first record in its file, from 1; a header line is not a record."""
    count: int
    """Number of consecutive records."""
    reason: str
    """The reason that `cohortsync rejects` shows for invalid and blank records."""

    @property
    def kind(self) -> "SkippedKind":
        """Whether the records hold no uid, hold an excluded one, or are invalid."""
        if self.reason.startswith(BLANK):
            return "blank"
        return "excluded" if self.reason == EXCLUDED else "invalid"


SkippedKind = Literal["blank", "invalid", "excluded"]

BLANK = "blank"
"""The reason of a record whose uid is missing, null or only white space (`str.isspace`)."""

EXCLUDED = "excluded"
"""The reason of a record whose uid is in an exclusion list."""

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
    """Records that plan no uid, ascending and disjoint."""
    is_remove: "npt.NDArray[np.bool_] | None" = None
    """Which of the uids are to be removed, by their records; None if these do not say."""
