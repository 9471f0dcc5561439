"""The user's options for reading files."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["text", "csv", "tsv", "ndjson", "parquet"]
"""The formats of a decompressed file."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """The user's options for the files; everything else is detected."""

    column: str | None = None
    """The uid column; None selects the only column.

    A name in the header (csv, tsv), a number from 1 if there is no header, or a field or its dotted
    path (`user._id.$oid` in ndjson and Parquet). A name that exists as written takes precedence
    over the path. Text has no columns.
    """
    format: Literal["auto"] | Format = "auto"
    """`auto` detects the format by the file's suffix, then by its content."""
    header: bool = True
    """Whether the first record of a csv or tsv file names the columns."""
    strip: bool = False
    """Whether white space around a uid is removed, as by `str.strip`."""
