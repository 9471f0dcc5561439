"""The options that the user gives for reading files."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["text", "csv", "tsv", "ndjson", "parquet"]
"""What a file can hold once it is decompressed."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What the user states about the files; everything else is found in them."""

    column: str | None = None
    """The column of the uids; None takes the only column there is.

    A header's name (csv, tsv), a number from 1 where there is no header, a field or a dotted path
    to one (`user._id.$oid` in ndjson and Parquet). A name that exists as it is written wins over
    the path. Text has no columns.
    """
    format: Literal["auto"] | Format = "auto"
    """`auto` goes by the file's suffix, then by its content."""
    header: bool = True
    """Whether the first record of a csv or tsv file names the columns."""
    strip: bool = False
    """Whether white space around a uid is removed, as `str.strip` does it."""
