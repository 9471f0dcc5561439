"""What can pass only once, kept so that it can be read from its start again."""

import io
import os
import weakref

from engine.source.formats.lines import OpenFile
from engine.source.temporary import close_quietly, spooled_file, translated_copy_errors

_IN_MEMORY = 8 << 20
"""Bytes that are kept in memory; beyond it a temporary file (0600, without a name) takes them."""


class ReplayBuffer:
    """A stream that passes once, and what of it has been kept."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.kept = spooled_file(_IN_MEMORY)
        weakref.finalize(self, close_quietly, self.kept)
        weakref.finalize(self, file.close)

    def played(self, *, is_taping: bool) -> OpenFile:
        """Return the stream from its start; what it reads on is kept only where `is_taping`."""
        return _Playing(self, is_taping=is_taping)


class _Playing(io.RawIOBase):
    """One reading of a tape, which outlives it."""

    def __init__(self, tape: ReplayBuffer, *, is_taping: bool) -> None:
        super().__init__()
        self._tape = tape
        self._is_taping = is_taping
        self._position = 0

    def close(self) -> None:
        """Close the stream, if nothing can read it again."""
        if not self._is_taping:
            self._tape.file.close()
        super().close()

    def readable(self) -> bool:
        """Say yes, for PyArrow."""
        return True

    def tell(self) -> int:
        """Return how many bytes lie behind."""
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return what is kept, then what comes."""
        kept = self._tape.kept
        kept.seek(self._position)
        chunk = kept.read(size)
        if not chunk:
            chunk = self._tape.file.read(size)
            if self._is_taping:
                with translated_copy_errors():
                    kept.seek(0, os.SEEK_END)
                    kept.write(chunk)
                    kept.flush()
        self._position += len(chunk)
        return chunk
