"""Files that are open for reading, stored or decompressed."""

import io
from typing import Protocol


class Stream(Protocol):
    """Bytes from the start of a file on, decompressed."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, fewer where no more are ready, and none at the end."""


class OpenFile(Stream, Protocol):
    """A file as it is stored, open for reading."""

    def tell(self) -> int:
        """Return how many bytes have been read; only called for what has a size."""

    def close(self) -> None:
        """Release what it holds."""


class PrefixedFile(io.RawIOBase):
    """Bytes that were read before, followed by the rest of their file."""

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
        """Return bytes of the start or of the file, never of both."""
        if self._start:
            chunk, self._start = self._start[:size], self._start[size:]
            return chunk
        return self._file.read(size)
