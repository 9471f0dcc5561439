"""Where the files of an export are, each as one `Location`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.source.files.file_state import FileState
from engine.source.streams import OpenFile


class Location(Protocol):
    """One file of an export."""

    @property
    def name(self) -> str:
        """How the file is shown to people, with no credential in it."""

    @property
    def address(self) -> str:
        """The path or URL that identifies the file."""

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where unknown."""

    @property
    def written_utc_ns(self) -> int | None:
        """When it was last written, in ns since 1970; None where unknown."""

    @property
    def state(self) -> FileState | None:
        """Its state when it was found; None for a pipe."""

    @property
    def is_quick_to_check(self) -> bool:
        """Whether `current_state` is quick enough to be called again and again while reading."""

    @property
    def is_seekable(self) -> bool:
        """Whether it can be read from any offset."""

    def current_state(self) -> FileState | None:
        """Return its state now. Raises `SourceError`, or what the file system raises."""

    def open(self) -> OpenFile:
        """Open the file at its start, unbuffered. Raises what the file system raises."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file."""

    name: str
    address: str
    state: FileState
    is_quick_to_check = True
    is_seekable = True

    @property
    def size(self) -> int | None:
        """Bytes as stored."""
        return self.state.size

    @property
    def written_utc_ns(self) -> int | None:
        """When it was last written, in ns since 1970."""
        return self.state.written_utc_ns

    def current_state(self) -> FileState:
        """Return the state of what the path names now."""
        return FileState.of_status(os.stat(self.address))  # noqa: PTH116 - as `find_locations`

    def open(self) -> OpenFile:
        """Open the file."""
        return Path(self.address).open("rb", buffering=0)
