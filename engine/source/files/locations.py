"""The locations of an export's files, each a `Location`: a regular file or a pipe."""

import io
import os
import stat
import sys
import weakref
from abc import ABC, abstractmethod
from pathlib import Path

from engine.errors import SourceError
from engine.source.files.file_state import FileState
from engine.source.streams import OpenFile
from engine.source.temporary import close_quietly, make_copy, translated_copy_errors

_IN_MEMORY = 8 << 20
"""Bytes of a pipe that are kept in memory; a larger copy goes to a temporary file."""


class Location(ABC):
    """One file of an export."""

    is_quick_to_check = True
    """Whether `current_state` is quick enough to be called repeatedly while reading."""

    def __init__(self, name: str, address: str, state: FileState | None) -> None:
        self.name = name
        """The file's name as shown to the user, without credentials."""
        self.address = address
        """The path or URL that identifies the file."""
        self.state = state
        """The file's state when it was found; None for a pipe."""

    @property
    def size(self) -> int | None:
        """Stored size in bytes; None if unknown."""
        return self.state.size if self.state else None

    @property
    def written_utc_ns(self) -> int | None:
        """Time of the last write, in ns since 1970; None if unknown."""
        return self.state.written_utc_ns if self.state else None

    @property
    def is_seekable(self) -> bool:
        """Whether the file can be read from any offset."""
        return True

    @abstractmethod
    def current_state(self) -> FileState | None:
        """Return the file's state now. Raises `SourceError` or the file system's errors."""

    @abstractmethod
    def open(self) -> OpenFile:
        """Open the file at its start, unbuffered. Raises the file system's errors."""


class LocalFile(Location):
    """A regular file."""

    def current_state(self) -> FileState:
        """Return the state of the file that is at the path now."""
        return FileState.of_status(os.stat(self.address))  # noqa: PTH116 - as `find_locations`

    def open(self) -> OpenFile:
        """Open the file."""
        return Path(self.address).open("rb", buffering=0)


class Pipe(Location):
    """Standard input or a named pipe.

    A pipe delivers its data once, so the data does not change. A file that standard input is
    redirected from may change.

    The first `open` is for inspecting the start; the second one begins with that start again. If
    `is_kept` is set, all data read is kept, and the pipe can be opened any number of times.
    """

    is_seekable = False
    size = written_utc_ns = None

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address, _state_of_redirected() if address == "-" else None)
        self.is_quick_to_check = self.state is not None
        self.is_kept = False
        self._buffer: _Buffer | None = None
        self._opened = 0

    def current_state(self) -> FileState | None:
        """Return the state of a redirected file now; None for a pipe."""
        return None if self.state is None else _state_of_redirected()

    def open(self) -> OpenFile:
        """Open the pipe. Raises `SourceError` if earlier data was not kept."""
        self._opened += 1
        if self._buffer is None:
            self._buffer = _Buffer(_unbuffered(self.address))
        if self._opened > 2 and not self.is_kept:  # noqa: PLR2004 - inspection, then reading
            raise SourceError(f"{self.name}: a pipe can be read only once")
        return _Reader(self._buffer, keep=self.is_kept or self._opened == 1)


class _Buffer:
    """A stream that can be read only once, with a copy of its start."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.copy = make_copy(_IN_MEMORY)
        weakref.finalize(self, close_quietly, self.copy)
        weakref.finalize(self, file.close)


class _Reader(io.RawIOBase):
    """Reads the copy, then the stream; with `keep`, data from the stream is added to the copy."""

    def __init__(self, buffer: _Buffer, *, keep: bool) -> None:
        super().__init__()
        self._buffer = buffer
        self._keep = keep
        self._position = 0

    def close(self) -> None:
        """Close the stream, unless it can be read again."""
        if not self._keep:
            self._buffer.file.close()
        super().close()

    def readable(self) -> bool:
        """Return True, for PyArrow."""
        return True

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return bytes from the copy or from the stream, never from both."""
        copy = self._buffer.copy
        copy.seek(self._position)
        chunk = copy.read(size)
        if not chunk:
            chunk = self._buffer.file.read(size)
            if self._keep:
                with translated_copy_errors():
                    copy.seek(0, os.SEEK_END)
                    copy.write(chunk)
                    copy.flush()
        self._position += len(chunk)
        return chunk


def _state_of_redirected() -> FileState | None:
    """Return the state of the file that standard input is redirected from; None for a pipe."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (AttributeError, ValueError, OSError):  # None, closed, or a test's stand-in
        return None
    return FileState.of_status(status) if stat.S_ISREG(status.st_mode) else None


def _unbuffered(address: str) -> OpenFile:
    """Open a pipe, unbuffered: a thread stuck in a buffered read blocks the exit."""
    if address != "-":
        return Path(address).open("rb", buffering=0)
    try:
        os.set_blocking(sys.stdin.fileno(), True)  # otherwise a pause is read as the end
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except io.UnsupportedOperation:  # a test's stand-in
        return sys.stdin.buffer
    except (AttributeError, ValueError):  # None or closed, when started without one
        raise SourceError("standard input is closed") from None
