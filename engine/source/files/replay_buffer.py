"""A copy of what comes through a pipe, so that it can be read from its start again."""

import io
import os
import weakref

from engine.source.streams import OpenFile
from engine.source.temporary import close_quietly, make_copy, translated_copy_errors

_IN_MEMORY = 8 << 20
"""Bytes that are kept in memory; more go to a temporary file."""


class ReplayBuffer:
    """A stream that can be read only once, and a copy of its start."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.copy = make_copy(_IN_MEMORY)
        weakref.finalize(self, close_quietly, self.copy)
        weakref.finalize(self, file.close)

    def reader(self, *, keep: bool) -> OpenFile:
        """Return the stream from its start; with `keep`, what is read on goes to the copy."""
        return _Reader(self, keep=keep)


class _Reader(io.RawIOBase):
    """Reads the copy, then the stream."""

    def __init__(self, buffer: ReplayBuffer, *, keep: bool) -> None:
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
        """Return bytes of the copy or of the stream, never of both."""
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
