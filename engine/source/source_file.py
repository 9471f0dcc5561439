"""The files of an export, with their sizes and times of writing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.model.quantity import counted


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of an export, as it was when it was opened."""

    name: str
    """The file's name as shown to the user, without credentials."""
    bytes: int | None
    """Stored size; None if unknown."""
    written_utc_ns: int | None
    """Time of the last write, in ns since 1970; None if unknown."""
    uids: int | None = None
    """Number of uids read so far, including duplicates; None if unknown."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the uids are in some files of an export."""

    format: str
    """The format of the files, or the kind of table."""
    column: str | None
    """The column's name, number or path; None if a line is a uid."""
    has_header: bool = False
    """Whether the first record names the columns."""
    files: int = 1
    """The number of files that have this layout."""


def describe_files(files: Sequence[SourceFile]) -> str:
    """Return a line with the number of files, their times of writing and their bytes."""
    return f"{counted(len(files), 'file')}, {_times(files)}, {_bytes(files)}"


def describe_file(file: SourceFile) -> str:
    """Return a line with the name of a file, its time of writing and its bytes."""
    return f"{file.name}, {_times([file])}, {_bytes([file])}"


def newest_utc_ns(files: Sequence[SourceFile]) -> int | None:
    """Return the latest time of writing; None if the time of any file is unknown."""
    written = [file.written_utc_ns for file in files if file.written_utc_ns is not None]
    return max(written) if written and len(written) == len(files) else None


def utc_minute(utc_ns: int, other_utc_ns: int | None = None) -> str:
    """Return a UTC time to the minute, with the year if it differs from that of the other time."""
    time, other = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in (utc_ns, other_utc_ns or utc_ns))
    year = f" {time.year}" if other.year != time.year else ""
    return f"{time.day} {time:%b}{year} {time:%H:%M}"


def _times(files: Sequence[SourceFile]) -> str:
    written = [file.written_utc_ns for file in files if file.written_utc_ns is not None]
    if not written:
        return "time of writing unknown"
    first, last = min(written), max(written)
    text = f"{utc_minute(first, last)} UTC"
    if utc_minute(first) != utc_minute(last) or last - first >= _MINUTE_NS:
        text = f"{utc_minute(first, last)} to {utc_minute(last, first)} UTC"
    unknown = len(files) - len(written)
    return f"{text} (that of {unknown:,} unknown)" if unknown else text


_MINUTE_NS = 60_000_000_000


def _bytes(files: Sequence[SourceFile]) -> str:
    sizes = [file.bytes for file in files if file.bytes is not None]
    if not sizes:
        return "size unknown"
    least = "" if len(sizes) == len(files) else "at least "
    return f"{least}{format_bytes(sum(sizes))}"


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that gives at least 1, to one decimal."""
    if count < _KILO:
        return counted(count, "byte")
    power = 1
    while power < len(_UNITS) and round(count / _KILO**power, 1) >= _KILO:
        power += 1
    return f"{count / _KILO**power:,.1f} {_UNITS[power - 1]}"


_KILO = 1000
_UNITS = ("kB", "MB", "GB", "TB")
