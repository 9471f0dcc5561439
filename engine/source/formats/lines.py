"""Splits a stream at line ends, and reads its start for the detection of the format."""

from collections.abc import Iterator

from engine.source.formats.rows import READ_SIZE, RECORD_LIMIT
from engine.source.streams import Stream

BOM = b"\xef\xbb\xbf"
_STEP = 1 << 16
_TAR_HEADER_BYTES = 512


def holds_bom(data: bytes) -> bool:
    """Return whether bytes contain a byte order mark anywhere."""
    return b"\xef" in data and BOM in data  # A search for one byte is much faster than for three.


def without_leading_boms(data: bytes) -> bytes:
    """Return the bytes without the byte order marks at their start."""
    while data.startswith(BOM):
        data = data.removeprefix(BOM)
    return data


def whole_lines(
    stream: Stream, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[bytes | None]:
    """Yield runs of whole lines with line feeds; the file's last line may lack one.

    None replaces a line of more than `limit` bytes, which is skipped and never fully in memory.
    `limit` is at least twice `size`, so that only a run's first line can be too long. Byte order
    marks at the start of a line are left out, because concatenated files may begin with one.
    """
    rest = b""
    chunks = iter(lambda: stream.read(size), b"")
    for chunk in chunks:
        buffer = rest + chunk
        cut = buffer.rfind(b"\n") + 1
        lines, rest = buffer[:cut], buffer[cut:]
        if cut > limit and (end := lines.index(b"\n") + 1) > limit:
            yield None
            lines = lines[end:]
        if lines := _without_boms(lines):
            yield lines
        if len(rest) > limit:
            yield None
            rest = skip_line(chunks)
    if rest := _without_boms(rest):  # After a line that was skipped, it may be several lines.
        yield rest


def _without_boms(lines: bytes) -> bytes:
    if not holds_bom(lines):
        return lines
    while (cleaned := without_leading_boms(lines).replace(b"\n" + BOM, b"\n")) != lines:
        lines = cleaned
    return lines


def skip_line(chunks: Iterator[bytes]) -> bytes:
    """Skip chunks up to the next line feed; return the bytes read after it."""
    for chunk in chunks:
        if end := chunk.find(b"\n") + 1:
            return chunk[end:]
    return b""


class FileStart:
    """The first bytes of a stream, read on demand up to the record limit."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.data = b""
        """The bytes read so far, including a byte order mark."""
        self.complete = False
        """Whether `data` is the whole file."""

    @property
    def text(self) -> bytes:
        """The bytes read so far, without byte order marks."""
        return without_leading_boms(self.data)

    def extend(self) -> bool:
        """Read more; return False at the end of the file or at the record limit."""
        if self.complete or len(self.data) > RECORD_LIMIT:
            return False
        chunk = self._stream.read(_STEP)
        self.data += chunk
        self.complete = not chunk
        return not self.complete

    def read_first_line(self) -> None:
        """Read at least the first non-blank line, and the size of a tar header.

        A pipe may deliver no more for a long time; a file's first 64 KiB are read at once.
        """
        while len(self.data) < _TAR_HEADER_BYTES or b"\n" not in self.text.lstrip():
            if not self.extend():
                return
