"""The start of a file, decompressed: as much as it takes to know what the file is."""

from engine.source.formats.lines import without_leading_boms
from engine.source.formats.rows import RECORD_LIMIT
from engine.source.streams import Stream

_STEP = 1 << 16
_TELLING_BYTES = 512


class FileStart:
    """The first bytes of a stream, read on demand up to the record limit."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.data = b""
        """What was read so far, a BOM included."""
        self.complete = False
        """Whether that is the whole file."""

    @property
    def text(self) -> bytes:
        """What was read so far without a BOM."""
        return without_leading_boms(self.data)

    def extend(self) -> bool:
        """Read on; False where the file or the record limit has been reached."""
        if self.complete or len(self.data) > RECORD_LIMIT:
            return False
        chunk = self._stream.read(_STEP)
        self.data += chunk
        self.complete = not chunk
        return not self.complete

    def read_first_line(self) -> None:
        """Read at least the first line that holds something, and as much as tells a tar archive.

        A pipe may not have more for a long time; a file's first 64 KiB are read at once.
        """
        while len(self.data) < _TELLING_BYTES or b"\n" not in self.text.lstrip():
            if not self.extend():
                return
