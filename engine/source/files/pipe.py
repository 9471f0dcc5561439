"""Standard input and named pipes."""

import io
import os
import stat
import sys
from pathlib import Path

from engine.errors import SourceError
from engine.source.files.file_state import FileState
from engine.source.files.replay_buffer import ReplayBuffer
from engine.source.streams import OpenFile


class Pipe:
    """Standard input, or a named pipe. Fulfils `Location`.

    What comes through a pipe comes once, and so does not change; a file that standard input is
    redirected from may change.

    The first `open` is to inspect the start; the second one begins with that start again. Once
    `is_kept` is set, everything read is kept, and the pipe can be opened any number of times.
    """

    is_seekable = False

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.size = None
        self.written_utc_ns = None
        self.state = _state_of_redirected() if address == "-" else None
        self.is_quick_to_check = self.state is not None
        self.is_kept = False
        self._buffer: ReplayBuffer | None = None
        self._opened = 0

    def current_state(self) -> FileState | None:
        """Return the state of a redirected file now; None for a pipe."""
        return None if self.state is None else _state_of_redirected()

    def open(self) -> OpenFile:
        """Open the pipe. Raises `SourceError` if what was read before was not kept."""
        self._opened += 1
        if self._buffer is None:
            is_stdin = self.address == "-"
            self._buffer = ReplayBuffer(
                _standard_input() if is_stdin else _unbuffered(self.address)
            )
        if self.is_kept or self._opened == 1:
            return self._buffer.reader(keep=True)
        if self._opened == 2:  # noqa: PLR2004 - the first was the inspection
            return self._buffer.reader(keep=False)
        raise SourceError(f"{self.name}: a pipe can be read only once")


def _state_of_redirected() -> FileState | None:
    """Return the state of the file that standard input is redirected from, None for a pipe."""
    try:
        status = os.fstat(sys.stdin.fileno())
    except (AttributeError, ValueError, OSError):  # None, closed, or a test's stand-in
        return None
    return FileState.of_status(status) if stat.S_ISREG(status.st_mode) else None


def _unbuffered(path: str) -> OpenFile:
    return Path(path).open("rb", buffering=0)


def _standard_input() -> OpenFile:
    """Return standard input, unbuffered: a thread stuck in a buffered read blocks the exit."""
    try:
        os.set_blocking(sys.stdin.fileno(), True)  # else a pause would look like the end
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    except io.UnsupportedOperation:  # a test's stand-in
        return sys.stdin.buffer
    except (AttributeError, ValueError):  # None or closed, when started without one
        raise SourceError("standard input is closed") from None
