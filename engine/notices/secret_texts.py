"""URLs that may hold secrets: written in the configuration, or in a file that it names."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from engine.errors import ConfigError

FILE_PREFIX = "file:"
"""Begins an entry that names a file with the URLs, one a line."""
_LONGEST_FILE = 65_536


def read_urls(place: str, entries: Iterable[str]) -> list[str]:
    """Return the URLs of a key; an entry `file:PATH` stands for the lines of a file.

    Blank lines and those that begin with `#` are skipped. Raises `ConfigError` with one line that
    begins with `place` and repeats no URL.
    """
    found: list[str] = []
    for entry in entries:
        if entry.startswith(FILE_PREFIX):
            found += _lines_of(place, Path(entry.removeprefix(FILE_PREFIX)))
        else:
            found.append(entry)
    return found


def readable_by_others(entries: Iterable[str]) -> list[Path]:
    """Return the files among the entries that other users can read."""
    found = []
    for entry in entries:
        if entry.startswith(FILE_PREFIX):
            path = Path(entry.removeprefix(FILE_PREFIX))
            # Not below systemd's folder of credentials, whose mode shows an ACL as the group's.
            is_credential = str(path).startswith(os.environ.get("CREDENTIALS_DIRECTORY") or "\0")
            if not is_credential and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
                found.append(path)
    return found


def _lines_of(place: str, path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{place} names a file that cannot be read: {reason}") from None
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ConfigError(f"{place} names a file without a URL")
    return found
