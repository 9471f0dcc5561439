"""Recognizes compressed files by their first bytes, as a suffix may be wrong."""

import bz2
import io
import zlib
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from engine.source.streams import OpenFile, Stream

MAGIC_SIZE = 10
"""Bytes needed to recognize the compression."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    # A skippable frame; files of pzstd begin with one.
    **{b"%c\x2a\x4d\x18" % first: "zstd" for first in range(0x50, 0x60)},
    # The level is any digit. The magic of the first block, or of an empty file, follows.
    **{b"BZh%d1AY&SY" % level: "bz2" for level in range(1, 10)},
    **{b"BZh%d\x17rE8P\x90" % level: "bz2" for level in range(1, 10)},
}

SUFFIXES = (".gz", ".zst", ".bz2")
_STEP = 1 << 18
"""Compressed bytes read at a time."""


def compression_of(start: bytes) -> str | None:
    """Return a file's compression by its first bytes; None if it is not compressed."""
    return next((codec for magic, codec in _MAGIC.items() if start.startswith(magic)), None)


def decompressed(file: OpenFile, codec: str | None) -> Stream:
    """Return the file's decompressed bytes, through all its members or frames.

    Zero bytes after the last member of gzip or bz2 are padding. If a file ends within a member, or
    other data follows a member, `read` raises `OSError`.
    """
    if codec is None:
        return file
    if codec == "zstd":
        stream: Stream = pa.CompressedInputStream(file, codec)
        return stream
    return _Members(file, codec)


class _Decompressor(Protocol):
    """The common interface of zlib and bz2."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
}


class _Members(io.RawIOBase):
    """The decompressed bytes of a file with one or more consecutive members."""

    def __init__(self, file: OpenFile, codec: str) -> None:
        super().__init__()
        self._file = file
        self._codec = codec
        self._unread = b""
        self._member: _Decompressor | None = None
        self._members = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` decompressed bytes, fewer only at the end."""
        parts = []
        while size > 0 and (part := self._part(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _part(self, size: int) -> bytes:
        while (member := self._member or self._next_member()) is not None:
            try:
                part = member.decompress(self._unread, size)
            except zlib.error as error:
                raise OSError(str(error)) from error
            # zlib returns its unread input; bz2 keeps it.
            kept = getattr(member, "unconsumed_tail", b"")
            self._unread = member.unused_data if member.eof else kept
            self._member = None if member.eof else member
            if part:
                return part
            if not member.eof and not self._read_on():
                raise OSError("Truncated compressed stream")
        return b""

    def _next_member(self) -> _Decompressor | None:
        """Return the decompressor for the next member; None at the end of the file."""
        while True:
            if self._members:
                self._unread = self._unread.lstrip(b"\0")
            if len(self._unread) >= MAGIC_SIZE or not self._read_on():
                break
        if not self._unread:
            return None
        if compression_of(self._unread) != self._codec:
            raise OSError(f"its {self._codec} data is followed by other bytes")
        self._members += 1
        return _DECOMPRESSORS[self._codec]()

    def _read_on(self) -> bool:
        chunk = self._file.read(_STEP)
        self._unread += chunk
        return bool(chunk)
