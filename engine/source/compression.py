"""Compressed files, known by their first bytes: a suffix may lie, these do not."""

import pyarrow as pa

from engine.source.lines import OpenFile, Stream

MAGIC_SIZE = 10
"""Bytes that are enough to tell."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    # The level can be any digit; what follows is the first block's, or an empty file's, own magic.
    **{b"BZh%d1AY&SY" % level: "bz2" for level in range(1, 10)},
    **{b"BZh%d\x17rE8P\x90" % level: "bz2" for level in range(1, 10)},
}

SUFFIXES = (".gz", ".zst", ".bz2")


def compression_of(start: bytes) -> str | None:
    """Return PyArrow's name of what the file's first bytes announce, None for plain."""
    return next((codec for magic, codec in _MAGIC.items() if start.startswith(magic)), None)


def decompressed(file: OpenFile, codec: str | None) -> Stream:
    """Return the file's plain bytes, through all its members or frames.

    A file that ends in the middle of one raises `OSError` at that place.
    """
    stream: Stream = file if codec is None else pa.CompressedInputStream(file, codec)
    return stream
