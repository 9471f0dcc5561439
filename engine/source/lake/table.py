"""A table at one version, as the libraries of Delta Lake and Iceberg let it be read."""

import re
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from engine.errors import SourceError, SourceUnavailableError
from engine.model.foreign_text import printable


class LakeTable(Protocol):
    """One version of a table."""

    @property
    def name(self) -> str:
        """The table and its version as shown to the user, without credentials."""

    @property
    def identity(self) -> str:
        """The table, wherever the program is started; without the version."""

    @property
    def version(self) -> int:
        """The number of the version; of an Iceberg table, the id of the snapshot."""

    @property
    def written_utc_ns(self) -> int | None:
        """When the version was committed, in ns since 1970; None if the table does not say."""

    @property
    def bytes(self) -> int:
        """Stored size of its files, all columns included."""

    @property
    def records(self) -> int | None:
        """About how many rows it has, deleted ones included; None if a file does not say."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of this version."""

    def values(self, column: str) -> Iterator[pa.Array]:
        """Read the values of a column, as `uid_values` returns them.

        The rows come in the same order each time, without those that were deleted. Raises
        `SourceError` if they cannot be read.
        """


_COLOR = re.compile("\x1b\\[[0-9;]*m|\u21b3")
_URL_SECRET = re.compile(r"(?<=://)[^/@\s]*@|(?<=\w)\?[^\s;)]*(?=[\s;)]|$)")
"""Credentials in a URL, and its query, which may be a signature."""
_LONGEST = 300
_UNREACHABLE = re.compile(
    r"error sending request|connection (?:refused|reset|closed)|timed out|failed to establish|"
    r"name resolution|dns error|status code\W{1,4}(?:429|5\d\d)",
    re.IGNORECASE,
)
"""What libraries say of a server that does not answer or is busy: their errors have no types."""


def one_line(error: BaseException) -> str:
    """Return what an error of a library says, in one line that is safe to show."""
    lines = _URL_SECRET.sub("", _COLOR.sub("", str(error))).splitlines()
    text = "; ".join(line.strip() for line in lines if line.strip()) or type(error).__name__
    return printable(text)[:_LONGEST]


def unreadable_table(name: str, error: Exception, hint: str | None = None) -> SourceError:
    """Return the error for a table that cannot be read, now or at all, as its library says."""
    if _UNREACHABLE.search(str(error)):
        return unavailable_table(name, error)
    return SourceError(f"{name}: cannot be read ({one_line(error)})", hint=hint)


def unavailable_table(name: str, error: Exception) -> SourceUnavailableError:
    """Return the error for a table that cannot be read now, as its library says."""
    return SourceUnavailableError(f"{name}: cannot be reached ({one_line(error)})")


def version_gone(name: str) -> SourceError:
    """Return the error for a version whose files were deleted."""
    return SourceError(
        f"{name}: files of this version were deleted, as by a vacuum",
        hint="name a later version to begin anew; a longer retention of the table keeps versions",
    )
