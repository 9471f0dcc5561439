"""The start of a file, decompressed: as much as is needed to detect its format."""

from engine.source.formats.lines import without_leading_boms
from engine.source.formats.rows import RECORD_LIMIT
from engine.source.streams import Stream

_STEP = 1 << 16
_TAR_HEADER_BYTES = 512


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
