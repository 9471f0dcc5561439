"""Picks the newest of the files or folders that a pattern matches.

Newest by the dates in the names if each name has one, otherwise by the times of writing. A folder,
such as the partition `dt=2026-11-27/`, is picked with all its files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.errors import MissingExportError, SourceError, UsageError
from engine.source.files.file_groups import is_export_by_name, sidecars
from engine.source.files.finding import find_locations
from engine.source.files.local import LocalTree
from engine.source.files.patterns import Kind, matches, pick_problem, split_at_magic
from engine.source.files.remote import match_remote
from engine.source.urls import display_url, file_path, is_url

_DATES = (
    # A time counts only in ISO 8601 or as digits of the date: others may be the number of a part.
    re.compile(
        r"(?<!\d)((?:19|20)\d{2})([-_./]?)(\d{2})\2(\d{2})"
        r"(?:(?:T|(?<=\d{8}))(\d{2})[:-]?(\d{2})(?:[:-]?(\d{2}))?Z?)?(?!\d)"
    ),
    re.compile(r"year=(\d{4})(/)month=(\d{1,2})/day=(\d{1,2})()()()(?!\d)"),
)


@dataclass(frozen=True, slots=True)
class _Match:
    """A file or folder that a pattern matches."""

    name: str
    """Its path or URL, with the credentials of the pattern."""
    varying: str
    """The part of its path from the pattern's first wildcard name on."""
    is_folder: bool


def pick_newest(pattern: str) -> str:
    """Return the name of the newest file or folder that a pattern matches.

    Markers, checksums, backups, and files that are still being written by their names are not
    picked. Raises `MissingExportError` if nothing matches, `SourceError` if the two newest are
    equally new, or if a time of writing that is needed is unknown; `UsageError` for a
    `pick_problem`.
    """
    if problem := pick_problem(pattern):
        raise UsageError(f"{_shown(pattern)}: {problem}")
    found = _exports_among(_matches(pattern))
    if not found:
        raise MissingExportError(
            f"{_shown(pattern)}: no file matches",
            hint="`**/` includes subfolders; markers, checksums and unfinished files are left out",
        )
    if len(found) == 1:
        return found[0].name
    dates = [date_in_name(each.varying) for each in found]
    known = [date for date in dates if date is not None]
    if len(known) == len(found):
        newest = max(known)
        return _only(
            pattern, [each for each, date in zip(found, known, strict=True) if date == newest]
        )
    times = [_written_utc_ns(each) for each in found]
    latest = max(times)
    return _only(pattern, [each for each, time in zip(found, times, strict=True) if time == latest])


def _only(pattern: str, newest: Sequence[_Match]) -> str:
    if len(newest) == 1:
        return newest[0].name
    first, second = (_shown(each.name) for each in newest[:2])
    more = f", and {len(newest) - 2:,} more" if newest[2:] else ""
    raise SourceError(
        f"{_shown(pattern)}: {first} and {second}{more} are equally new, and one can be picked",
        hint="to read all files of a folder, let the pattern end with it, such as dt=*/",
    )


def date_in_name(name: str) -> datetime | None:
    """Return the date in a path, with a time if it has one; None if it has no or several dates."""
    dates = {date for kind in _DATES for match in kind.finditer(name) if (date := _date(match))}
    return dates.pop() if len(dates) == 1 else None


def _date(match: re.Match[str]) -> datetime | None:
    year, _, *others = match.groups()
    month, day, hour, minute, second = (int(digits or 0) for digits in others)
    try:
        return datetime(int(year), month, day, hour, minute, second)  # noqa: DTZ001 - compared with its like
    except ValueError:
        return None


def _written_utc_ns(match: _Match) -> int:
    """Return when a file, or the last file of a folder, was written."""
    written = [location.written_utc_ns for location in find_locations([match.name]).locations]
    known = [utc_ns for utc_ns in written if utc_ns]  # A store may give 1970 for no time.
    if not written or len(known) < len(written):
        raise SourceError(
            f"{_shown(match.name)}: its time of writing is unknown, and the newest is asked for",
            hint="write a date into each name, such as vip-2026-11-27.csv",
        )
    return max(known)


def _matches(pattern: str) -> list[_Match]:
    path = file_path(pattern) or pattern
    if is_url(path):
        remote, own = match_remote(path)
        start = len(split_at_magic(own)[0])
        return [_Match(url, entry.path[start:], entry.kind is Kind.FOLDER) for url, entry in remote]
    local, _ = matches(LocalTree(), path)
    start = len(split_at_magic(path)[0])
    return [_Match(each.path, each.path[start:], each.kind is Kind.FOLDER) for each in local]


def _exports_among(found: Sequence[_Match]) -> list[_Match]:
    passed_over = sidecars([each.varying for each in found if not each.is_folder])
    return [
        each
        for each in found
        if each.is_folder or (each.varying not in passed_over and is_export_by_name(each.varying))
    ]


def _shown(name: str) -> str:
    return display_url(name) if is_url(name) else name
