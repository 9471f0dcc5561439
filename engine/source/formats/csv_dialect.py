"""Reads csv one record at a time. This reader defines the dialect; PyArrow is faster.

- A record ends with LF or CRLF outside quotes; a bare carriage return is part of its field.
- A field that begins with a quote ends with the next quote that is not doubled, and the delimiter
  or the record's end must follow it. Elsewhere in a field a quote is an ordinary character.
- Otherwise (text after a closing quote, or no closing quote within the record limit) the quote is
  broken. Only the line on which its record began is invalid: reading continues after the first
  LF, so that a stray quote invalidates no other row.
- A line longer than the record limit is over-long, and reading continues after it.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from engine.source.formats.rows import OVER_LONG

BROKEN_QUOTE = "broken quote"

_QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')


class Record(NamedTuple):
    """One record, or the first line of a broken record."""

    fields: list[bytes]
    """The unquoted fields; none if there is a `fault`."""
    end: int
    """Offset of the next record."""
    fault: str | None = None
    unfinished: bool = False
    """Whether an over-long line continues beyond the buffer."""


@dataclass(frozen=True)
class Dialect:
    """The delimiter, and the limit of a record in bytes, including its line end."""

    delimiter: bytes
    limit: int

    @cached_property
    def _bare(self) -> re.Pattern[bytes]:
        return re.compile(rb"[^\n%b]*+" % re.escape(self.delimiter))

    def record(self, buffer: bytes, start: int, *, final: bool) -> Record | None:
        """Return the record at `start`; None if `buffer` is too short.

        `final` means that the buffer ends the file. A buffer of `limit` plus two bytes is always
        long enough.
        """
        line_end = buffer.find(b"\n", start)
        if 0 <= line_end - start < self.limit and buffer.find(b'"', start, line_end) < 0:
            line = buffer[start:line_end].removesuffix(b"\r")
            return Record(line.split(self.delimiter), line_end + 1)
        return self._quoted_record(buffer, start, final=final)

    def _quoted_record(self, buffer: bytes, start: int, *, final: bool) -> Record | None:
        enough = final or len(buffer) - start > self.limit + 1
        fields: list[bytes] = []
        position = start
        while True:
            quoted = buffer.startswith(b'"', position)
            match = (_QUOTED if quoted else self._bare).match(buffer, position)
            if match is None:
                return self._first_line(buffer, start, final=final) if enough else None
            position = match.end()
            if not enough and (position == len(buffer) or (quoted and buffer[position:] == b"\r")):
                return None
            value = match[1].replace(b'""', b'"') if quoted else match[0]
            if buffer.startswith(self.delimiter, position):
                fields.append(value)
                position += 1
                continue
            if buffer.startswith(b"\n", position):
                value = value if quoted else value.removesuffix(b"\r")
                position += 1
            elif quoted and buffer.startswith(b"\r\n", position):
                position += 2
            elif position < len(buffer) or not final:
                return self._first_line(buffer, start, final=final)
            if position - start > self.limit:
                return self._first_line(buffer, start, final=final)
            fields.append(value)
            return Record(fields, position)

    def _first_line(self, buffer: bytes, start: int, *, final: bool) -> Record | None:
        """Return the line at `start` as an invalid record; None if `buffer` is too short."""
        end = buffer.find(b"\n", start) + 1
        if not end and not final and len(buffer) - start <= self.limit:
            return None
        unfinished = not end and not final
        end = end or len(buffer)
        return Record([], end, OVER_LONG if end - start > self.limit else BROKEN_QUOTE, unfinished)
