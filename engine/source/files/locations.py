"""Where the files of an export are, each as one `Location`."""

import os
from abc import ABC, abstractmethod
from pathlib import Path

from engine.source.files.file_state import FileState
from engine.source.streams import OpenFile


class Location(ABC):
    """One file of an export."""

    is_quick_to_check = True
    """Whether `current_state` is quick enough to be called again and again while reading."""

    def __init__(self, name: str, address: str, state: FileState | None) -> None:
        self.name = name
        """How the file is shown to people, with no credential in it."""
        self.address = address
        """The path or URL that identifies the file."""
        self.state = state
        """Its state when it was found; None for a pipe."""

    @property
    def size(self) -> int | None:
        """Bytes as stored; None where unknown."""
        return self.state.size if self.state else None

    @property
    def written_utc_ns(self) -> int | None:
        """When it was last written, in ns since 1970; None where unknown."""
        return self.state.written_utc_ns if self.state else None

    @property
    def is_seekable(self) -> bool:
        """Whether it can be read from any offset."""
        return True

    @abstractmethod
    def current_state(self) -> FileState | None:
        """Return its state now. Raises `SourceError`, or what the file system raises."""

    @abstractmethod
    def open(self) -> OpenFile:
        """Open the file at its start, unbuffered. Raises what the file system raises."""


class LocalFile(Location):
    """A regular file."""

    def current_state(self) -> FileState:
        """Return the state of what the path names now."""
        return FileState.of_status(os.stat(self.address))  # noqa: PTH116 - as `find_locations`

    def open(self) -> OpenFile:
        """Open the file."""
        return Path(self.address).open("rb", buffering=0)
