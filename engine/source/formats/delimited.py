"""Reads csv and tsv: with PyArrow if its result equals that of `csv_dialect`, else with the latter.

Concatenated files are supported: a byte order mark at the start of a record is left out, and a
record that equals the header is blank. In a file of one column, a byte order mark elsewhere makes
the record invalid, as a line end was lost. A bare carriage return in a uid, quoted or not, makes
the record invalid too.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from engine.source.block import BLANK, HEADER_AGAIN
from engine.source.formats.csv_dialect import Dialect
from engine.source.formats.lines import BOM, holds_bom, skip_line, without_leading_boms
from engine.source.formats.rows import READ_SIZE, RECORD_LIMIT, RawRows, is_blank, no_values
from engine.source.streams import Stream
from engine.storage.arrow import buffers

SEP_LINE = re.compile(rb'"?(?i:sep=)([^\r\n])"?\r?\n')
"""Matches the line in which Excel declares the delimiter."""
_Bytes = npt.NDArray[np.uint8]
_Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Columns:
    """The layout of a file's records, as given by its first record."""

    delimiter: bytes
    count: int
    chosen: int
    """Index of the uid column, from 0."""
    header: bool
    """Whether the first record is a header; a header is not counted as a record."""
    has_sep_line: bool = False
    """Whether a `SEP_LINE` precedes the first record; it is not counted either."""


def delimited_rows(
    stream: Stream, columns: Columns, size: int = READ_SIZE, limit: int = RECORD_LIMIT
) -> Iterator[RawRows]:
    """Yield the records of a csv or tsv file without the header."""
    dialect = Dialect(columns.delimiter, limit)
    chunks = iter(lambda: stream.read(size), b"")
    buffer = b""
    header: Sequence[bytes] = ()
    if columns.has_sep_line:
        _, buffer = _first_record(chunks, buffer, dialect)
    if columns.header:
        header, buffer = _first_record(chunks, buffer, dialect)
    final = False
    while not final:
        chunk = next(chunks, b"")
        final = not chunk
        buffer = without_leading_boms(buffer + chunk)
        rows, end = _fast(buffer, columns, header, limit, final=final) or (None, 0)
        unfinished = False
        if rows is None:
            rows, end, unfinished = _careful(buffer, columns, header, dialect, final=final)
        if rows.records:
            yield rows
        buffer = skip_line(chunks) if unfinished else buffer[end:]


def _first_record(
    chunks: Iterator[bytes], buffer: bytes, dialect: Dialect
) -> tuple[Sequence[bytes], bytes]:
    """Return the fields of the first record, and the bytes read after it."""
    while (record := dialect.record(without_leading_boms(buffer), 0, final=False)) is None:
        if not (chunk := next(chunks, b"")):
            return (), b""
        buffer += chunk
    return record.fields, without_leading_boms(buffer)[record.end :]


def _careful(
    buffer: bytes, columns: Columns, header: Sequence[bytes], dialect: Dialect, *, final: bool
) -> tuple[RawRows, int, bool]:
    """Read record by record; return rows, their end, and whether the last line is unfinished."""
    values: list[bytes] = []
    refused: list[tuple[int, str]] = []
    records = end = 0
    unfinished = False
    while end < len(buffer) and (record := dialect.record(buffer, end, final=final)):
        found = len(record.fields)
        if header and record.fields == header:
            refused.append((records, HEADER_AGAIN))
        elif found == columns.count:
            values.append(record.fields[columns.chosen])
        elif found == 1 and is_blank(buffer[end : record.end]):
            refused.append((records, BLANK))
        else:
            refused.append((records, record.fault or _miscounted(found, columns.count)))
        records += 1
        end, unfinished = record.end, record.unfinished
        while buffer.startswith(BOM, end):
            end += len(BOM)
    has_inner_bom = columns.count == 1 and holds_bom(buffer)
    array = pa.array(values, pa.binary())
    return _rows(array, refused, records, refuses_bom=has_inner_bom), end, unfinished


def _rows(
    values: pa.Array, refused: Sequence[tuple[int, str]], records: int, *, refuses_bom: bool
) -> RawRows:
    has_return = bool((buffers(values)[1] == ord("\r")).any())
    return RawRows(values, refused, records, refuses_bom=refuses_bom, refuses_return=has_return)


def _miscounted(found: int, expected: int) -> str:
    return f"too {'few' if found < expected else 'many'} columns ({found}, not {expected})"


def _fast(
    buffer: bytes, columns: Columns, header: Sequence[bytes], limit: int, *, final: bool
) -> tuple[RawRows, int] | None:
    """Read the buffer's whole records with PyArrow; None if it would read them differently."""
    cut, records = _clean_records(buffer, columns.delimiter, final=final)
    if not 0 <= cut <= limit or (not cut and len(buffer) > limit):
        return None
    if not cut:
        return RawRows(no_values()), 0
    data = buffer[:cut]
    refused: list[tuple[int, str]] = []

    def refuse(row: csv.InvalidRow) -> str:
        blank = row.actual_columns == 1 and not row.text.strip()
        reason = BLANK if blank else _miscounted(row.actual_columns, columns.count)
        refused.append((row.number - 1, reason))
        return "skip"

    names = [str(number) for number in range(columns.count)]
    chosen = names[columns.chosen]
    try:
        table = csv.read_csv(
            pa.BufferReader(data),
            csv.ReadOptions(use_threads=False, block_size=cut + 1, column_names=names),
            csv.ParseOptions(
                delimiter=columns.delimiter.decode(),
                newlines_in_values=True,
                ignore_empty_lines=False,
                # PyArrow passes a bad row to the handler as text, so the block must be UTF-8.
                # Without the handler a block with such a row raises ArrowInvalid.
                invalid_row_handler=refuse if _is_utf8(data) else None,
            ),
            csv.ConvertOptions(
                check_utf8=False,
                column_types={chosen: pa.binary()},
                include_columns=[chosen],
                null_values=[],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows + len(refused) != records:
        return None
    [values] = table.column(0).chunks  # One block gives one chunk.
    if header and pc.any(pc.equal(values, header[columns.chosen])).as_py():
        return None  # A record may equal the header.
    has_inner_bom = columns.count == 1 and holds_bom(data)
    return _rows(values, refused, records, refuses_bom=has_inner_bom), cut


_MISREAD = (-1, 0)


def _clean_records(buffer: bytes, delimiter: bytes, *, final: bool) -> tuple[int, int]:
    """Return the end of the buffer's last whole record, and the number of records.

    Returns `_MISREAD` if PyArrow would read the buffer differently: for a quote that is not around
    a field, a bare carriage return outside quotes (PyArrow ends a record there), or a BOM at the
    start of a record.
    """
    if holds_bom(buffer) and b"\n" + BOM in buffer:
        return _MISREAD
    data = np.frombuffer(buffer, np.uint8)
    quotes = np.flatnonzero(data == ord('"')) if b'"' in buffer else np.zeros(0, np.intp)
    cut = len(buffer) if final else _last_line_feed_outside(buffer, quotes) + 1
    quotes = quotes[: np.searchsorted(quotes, cut)]
    if len(quotes) % 2 or not _quotes_surround_fields(data[:cut], quotes, delimiter):
        return _MISREAD
    has_returns = buffer.find(b"\r", 0, cut) >= 0
    if has_returns and buffer.count(b"\r", 0, cut) > buffer.count(b"\r\n", 0, cut):
        returns = np.flatnonzero(data[:cut] == ord("\r"))
        bare = returns[data[np.minimum(returns + 1, cut - 1)] != ord("\n")]
        if _outside(bare, quotes) != 0:
            return _MISREAD
    is_line_feed = data[:cut] == ord("\n")
    records = int(np.count_nonzero(is_line_feed))
    if len(quotes):
        records = _outside(np.flatnonzero(is_line_feed), quotes)
    return cut, records + (cut > 0 and buffer[cut - 1] != ord("\n"))


def _outside(positions: _Positions, quotes: _Positions) -> int:
    """Count the positions with an even number of quotes before them."""
    return len(positions) - int(np.count_nonzero(np.searchsorted(quotes, positions) % 2))


def _last_line_feed_outside(buffer: bytes, quotes: _Positions) -> int:
    """Return the position of the last line feed with an even number of quotes before it, or -1."""
    end = len(buffer)
    for before in range(len(quotes), -1, -1):
        start = int(quotes[before - 1]) + 1 if before else 0
        if before % 2 == 0 and (position := buffer.rfind(b"\n", start, end)) >= 0:
            return position
        end = start
    return -1


def _quotes_surround_fields(data: _Bytes, quotes: _Positions, delimiter: bytes) -> bool:
    """Return whether each quote begins or ends a field, or is doubled inside a quoted field."""
    if not len(quotes):
        return True
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    after_next = data[np.minimum(closing[closing < len(data) - 1] + 2, len(data) - 1)]
    begins = np.isin(before, np.frombuffer(delimiter + b'\n"', np.uint8))
    ends = np.isin(after, np.frombuffer(delimiter + b'\n"', np.uint8))
    ends |= (after == ord("\r")) & (after_next == ord("\n"))
    return bool(begins.all() and ends.all())


def _is_utf8(data: bytes) -> bool:
    try:
        pa.scalar(data, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True
