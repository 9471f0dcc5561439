"""Interfaces of files open for reading, stored or decompressed."""

import io
from typing import Protocol


class Stream(Protocol):
    """The decompressed bytes of a file, from its start."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, fewer if no more are ready, and none at the end."""


class OpenFile(Stream, Protocol):
    """A stored file, open for reading."""

    def tell(self) -> int:
        """Return the number of bytes read; only called for a file of known size."""

    def close(self) -> None:
        """Release its resources."""


class PrefixedFile(io.RawIOBase):
    """Bytes that were read earlier, followed by the rest of their file."""

    def __init__(self, start: bytes, file: OpenFile) -> None:
        super().__init__()
        self._start = start
        self._file = file

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """Return True, for PyArrow."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return bytes from the start or from the file, never from both."""
        if self._start:
            chunk, self._start = self._start[:size], self._start[size:]
            return chunk
        return self._file.read(size)
