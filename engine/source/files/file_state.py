"""The state that distinguishes versions of a file: size, time of writing, inode or ETag."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

_TAGS = ("generation", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5")
"""Keys of a file's version in fsspec backends, the best one first."""
_TIMES = (
    *("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified"),
    *("modify", "last_write_time", "modificationTime", "created"),
)
"""Keys of a file's time of writing."""
_INODE = "inode "
_FTP_TIME = "%Y%m%d%H%M%S"
_SECOND = 10**9
_MILLISECONDS_FROM = 1e11
"""Numbers from here on are milliseconds; as seconds they would be in the year 5138."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's state at one moment; a different later state means that the file changed."""

    size: int | None
    """Stored size in bytes; None if unknown."""
    written_utc_ns: int | None
    """Time of the last write, in ns since 1970; None if unknown."""
    tag: str | None = None
    """Inode, ETag or generation; None if there is none."""

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Self:
        """Return the state in a file's info from an fsspec backend."""
        size = info.get("size")
        tag = next((info[key] for key in _TAGS if info.get(key)), None)
        return cls(
            None if size is None else int(size),
            written_utc_ns(info),
            None if tag is None else str(tag).removeprefix("W/").strip('"'),
        )

    @classmethod
    def of_status(cls, status: os.stat_result) -> Self:
        """Return the state in a file's status from the operating system."""
        return cls(status.st_size, status.st_mtime_ns, f"{_INODE}{status.st_ino}")

    def within(self, archive: "FileState") -> "FileState":
        """Return the state of a file inside an archive; it changes with the archive."""
        tag = f"{archive.tag or _INODE} {archive.size}"
        return FileState(self.size, archive.written_utc_ns, tag)

    def change(self, later: "FileState | None") -> str | None:
        """Describe how a later state differs; None if it is unknown or equal."""
        if later is None:
            return None
        if None not in {self.size, later.size} and self.size != later.size:
            return f"{self.size:,} bytes at first, {later.size:,} now"
        if self.tag and later.tag and self.tag != later.tag:
            return "another file has taken its place"
        if self._depends_on_time and not self._is_as_old_as(later):
            return "it was written meanwhile"
        return None

    def _is_as_old_as(self, later: "FileState") -> bool:
        """Return whether the times are equal, in whole seconds if one has no fraction.

        A store may give seconds in a listing and a fraction for one file.
        """
        times = self.written_utc_ns, later.written_utc_ns
        if (
            self.tag is None
            and None not in times
            and any((time or 0) % _SECOND == 0 for time in times)
        ):
            times = (times[0] or 0) // _SECOND, (times[1] or 0) // _SECOND
        return times[0] == times[1]

    @property
    def _depends_on_time(self) -> bool:
        """Whether only the time shows a change, as a write does not change the tag."""
        return self.tag is None or self.tag.startswith(_INODE)


def written_utc_ns(info: Mapping[str, Any]) -> int | None:
    """Return a file's time of writing from its backend info, in ns since 1970."""
    for key in _TIMES:
        if (time := _ns(info.get(key))) is not None:
            return time
    return None


def _ns(value: Any) -> int | None:  # noqa: ANN401 - each backend has its own type
    """Return a time in ns since 1970; a time without a zone is UTC, as in every store."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(zoned.timestamp() * 1e6) * 1000
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return round(value * (1e3 if value >= _MILLISECONDS_FROM else 1e6)) * 1000
    return None


def _parsed(text: str) -> datetime | None:
    """Parse ISO 8601, an HTTP date, or the digits of FTP."""
    for parse in (
        datetime.fromisoformat,
        parsedate_to_datetime,
        lambda digits: datetime.strptime(digits[:14], _FTP_TIME).replace(tzinfo=UTC),
    ):
        try:
            return parse(text)
        except (ValueError, TypeError, IndexError):
            continue
    return None
