"""What every reader yields: consecutive records of one export file, with the uids they plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from engine.source.source_file import SourceFile


@dataclass(frozen=True, slots=True)
class Skipped:
    """Consecutive records that plan no uid, all for the same reason."""

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
    uids: pa.StringArray
    """The planned uids in export order: valid UTF-8, no nulls, type `pa.string()`."""
    skipped: tuple[Skipped, ...]
    """Blank and invalid records, ascending and disjoint."""


class Source(Protocol):
    """An export that can be read from its start, again and again unless it is a pipe."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which files, read how: JSON values that are equal exactly when the reading is."""

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """Bytes of each file by the name that `Block.file` shows; None where unknown."""

    @property
    def files(self) -> Sequence[SourceFile]:
        """The files, in the order in which they are read; empty if it is not made of files.

        Their `uids` are those of the latest reading, as far as it has come.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before the run, such as an option that was ignored."""

    @property
    def share_read(self) -> float | None:
        """How much has been read, from 0 to 1, as seen from any thread; None if unknown."""

    @property
    def uids_read(self) -> int:
        """How many uids the blocks read so far hold, as seen from any thread."""

    def blocks(self) -> Iterator[Block]:
        """Read from the start.

        Blocks hold at most a few megabytes of uids, so memory stays flat. Raises `SourceError`
        where the export cannot be read on.
        """
