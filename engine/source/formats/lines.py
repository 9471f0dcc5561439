"""A stream cut at line ends, and its start, by which a format is detected."""

from collections.abc import Iterator

from engine.source.formats.rows import READ_SIZE, RECORD_LIMIT
from engine.source.streams import Stream

BOM = b"\xef\xbb\xbf"
_STEP = 1 << 16
_TAR_HEADER_BYTES = 512


def holds_bom(data: bytes) -> bool:
    """Return whether a byte order mark is anywhere in some bytes."""
    return b"\xef" in data and BOM in data  # One byte is found far sooner than three.


def without_leading_boms(data: bytes) -> bytes:
    """Return the bytes without the byte order marks at their start."""
    while data.startswith(BOM):
        data = data.removeprefix(BOM)
    return data


def whole_lines(
    stream: Stream, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[bytes | None]:
    """Yield runs of whole lines with their line feeds, which the file's last line may lack.

    None stands for one line of more than `limit` bytes, which is skipped and never held whole.
    `limit` is at least twice `size`, so that only a run's first line can be too long. Byte order
    marks at the start of a line are left out: files that begin with one were concatenated.
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
    if rest := without_leading_boms(rest):
        yield rest


def _without_boms(lines: bytes) -> bytes:
    if not holds_bom(lines):
        return lines
    while (cleaned := without_leading_boms(lines).replace(b"\n" + BOM, b"\n")) != lines:
        lines = cleaned
    return lines


def skip_line(chunks: Iterator[bytes]) -> bytes:
    """Skip chunks up to the next line feed; return what was read after it."""
    for chunk in chunks:
        if end := chunk.find(b"\n") + 1:
            return chunk[end:]
    return b""


class FileStart:
    """The first bytes of a stream, read on demand up to the record limit."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.data = b""
        """What was read so far, including a byte order mark."""
        self.complete = False
        """Whether that is the whole file."""

    @property
    def text(self) -> bytes:
        """What was read so far, without byte order marks."""
        return without_leading_boms(self.data)

    def extend(self) -> bool:
        """Read on; return False once the end of the file or the record limit has been reached."""
        if self.complete or len(self.data) > RECORD_LIMIT:
            return False
        chunk = self._stream.read(_STEP)
        self.data += chunk
        self.complete = not chunk
        return not self.complete

    def read_first_line(self) -> None:
        """Read at least the first line that is not blank, and the header of a tar archive.

        A pipe may not have more for a long time; a file's first 64 KiB are read at once.
        """
        while len(self.data) < _TAR_HEADER_BYTES or b"\n" not in self.text.lstrip():
            if not self.extend():
                return
