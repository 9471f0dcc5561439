"""Reads text: one uid per line, no header.

A line ends with LF or CRLF, and an empty line is a blank row. A bare carriage return makes the row
invalid. A byte order mark at the start of a line is left out; elsewhere it makes the row invalid.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from engine.source.formats.lines import holds_bom, whole_lines
from engine.source.formats.rows import OVER_LONG, READ_SIZE, RECORD_LIMIT, RawRows, no_values
from engine.source.streams import Stream


def text_rows(
    stream: Stream, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[RawRows]:
    """Yield the lines of a text file."""
    for lines in whole_lines(stream, size, limit):
        if lines is None:
            yield RawRows(no_values(), ((0, OVER_LONG),), records=1)
        else:
            count = lines.count(b"\n") + (not lines.endswith(b"\n"))
            if b"\r" in lines:  # A search for one byte is much faster than for two.
                lines = lines.replace(b"\r\n", b"\n")  # noqa: PLW2901 - the same lines
            yield RawRows(
                _split(lines),
                records=count,
                refuses_bom=holds_bom(lines),
                refuses_return=b"\r" in lines,
            )


def _split(lines: bytes) -> pa.BinaryArray:
    """Return lines without line feeds: one pass finds them, one removes them."""
    if not lines.endswith(b"\n"):
        lines += b"\n"
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends))
    values = lines.translate(None, b"\n")
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends), buffers)
