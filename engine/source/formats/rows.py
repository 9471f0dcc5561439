"""Turns the values from a format's reader into a block of uids and skipped records."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import EmptyExportError
from engine.model.quantity import counted
from engine.source.block import BLANK, Block, Skipped
from engine.storage.arrow import buffers

READ_SIZE = 1 << 20
"""Bytes read and parsed at a time. A block has at most a few times as many."""

RECORD_LIMIT = 4 << 20
"""Limit of a record in bytes, including its line end; a longer record is invalid.

It bounds the memory for an unclosed quote or a file without line ends. A payload, and so the
longest uid that can be sent, is a thirtieth of it.
"""

NOT_UTF8 = "invalid UTF-8"
INNER_BOM = "a byte order mark inside: files put together without a line end"
INNER_RETURN = "a carriage return inside: line ends of another system"
_BARE_RETURN = "\r([^\n]|$)"
_BEYOND_ASCII = 0x80
OVER_LONG = f"longer than {RECORD_LIMIT:,} bytes"


@dataclass(frozen=True, slots=True)
class RawRows:
    """Consecutive records of a file from its reader; the values are not checked yet."""

    values: pa.Array
    """The column's values in order: binary or string, null if a record has none."""
    refused: Sequence[tuple[int, str]] = ()
    """Records without a value: offset from the first record here, and reason; ascending."""
    records: int = 0
    """Number of records that the reader counted, independently of the two fields above."""
    refuses_bom: bool = False
    """Whether a byte order mark in a value makes its record invalid."""
    refuses_return: bool = False
    """Whether a carriage return without a line feed after it makes a value's record invalid."""


def no_values() -> pa.Array:
    """Return the empty array of values, for rows that were all refused."""
    return pa.array([], pa.binary())


def to_block(rows: RawRows, *, file: str, first_record: int, strip: bool) -> Block:
    """Return the block of rows: valid UTF-8 uids, and a reason for each record without a uid.

    White space is defined by `str.isspace`: it includes no-break spaces and the ideographic space,
    but not the zero-width space.
    """
    text, broken = _as_text(rows.values)
    if strip:
        text = pc.utf8_trim_whitespace(text)
    unusable = pc.or_kleene(pc.equal(pc.binary_length(text), 0), pc.utf8_is_space(text))
    unusable = pc.fill_null(unusable, fill_value=True)
    clean = not (rows.refused or rows.refuses_bom or rows.refuses_return)
    if clean and not pc.any(unusable).as_py():
        return Block(file, first_record, rows.records, text, ())
    reasons = ["", BLANK, NOT_UTF8, INNER_RETURN, INNER_BOM]
    codes = unusable.to_numpy(zero_copy_only=False).astype(np.int32)
    codes[broken] = reasons.index(NOT_UTF8)
    if rows.refuses_return:
        codes[(codes == 0) & _found(text, _BARE_RETURN)] = reasons.index(INNER_RETURN)
    if rows.refuses_bom:
        codes[_found(text, "\ufeff")] = reasons.index(INNER_BOM)
    uids = text.filter(pa.array(codes == 0))
    if rows.refused:
        codes = _with_refused(codes, rows.refused, reasons)
    return Block(file, first_record, rows.records, uids, runs_of(codes, reasons, first_record))


def is_blank(line: bytes) -> bool:
    """Return whether a line has only white space."""
    return not line.strip() or (not line.isascii() and not line.decode(errors="replace").strip())


def _found(text: pa.StringArray, pattern: str) -> npt.NDArray[np.bool_]:
    """Return, for each value, whether the pattern matches in it."""
    found = pc.fill_null(pc.match_substring_regex(text, pattern), fill_value=False)
    marks: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return marks


def _as_text(values: pa.Array) -> tuple[pa.StringArray, list[int]]:
    """Return the values as strings, and the indices of invalid UTF-8, which becomes null."""
    if values.type == pa.binary() and buffers(values)[1].max(initial=0) < _BEYOND_ASCII:
        return values.view(pa.string()), []
    try:
        return values.cast(pa.string()), []
    except pa.ArrowInvalid:
        texts: list[str | None] = []
    broken: list[int] = []
    for index, value in enumerate(values.to_pylist()):
        try:
            texts.append(value if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            broken.append(index)
    return pa.array(texts, pa.string()), broken


def _with_refused(
    codes: npt.NDArray[np.int32], refused: Sequence[tuple[int, str]], reasons: list[str]
) -> npt.NDArray[np.int32]:
    """Insert the refused records among the others, and add their reasons to the list."""
    numbers = {reason: number for number, reason in enumerate(reasons)}
    merged = np.full(len(codes) + len(refused), -1, np.int32)
    for offset, reason in refused:
        merged[offset] = numbers.setdefault(reason, len(numbers))
    merged[merged < 0] = codes
    reasons[:] = numbers
    return merged


def runs_of(
    codes: npt.NDArray[np.int32], reasons: Sequence[str], first_record: int
) -> tuple[Skipped, ...]:
    """Combine consecutive records with the same reason into one `Skipped`."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    counts = np.diff(starts, append=len(codes))
    skipped = np.flatnonzero(codes[starts])
    return tuple(
        Skipped(first_record + int(starts[run]), int(counts[run]), reasons[codes[starts[run]]])
        for run in skipped
    )


BLOCK_ROWS = 1 << 15
"""Rows of a block that is part of a larger batch."""


def blocks_of(arrays: Iterable[pa.Array], *, file: str, strip: bool) -> Iterator[Block]:
    """Yield the values of a column as blocks: consecutive records from 1.

    Raises `EmptyExportError` at the end if no value is a uid.
    """

    def blocks() -> Iterator[Block]:
        record = 1
        for values in arrays:
            for start in range(0, len(values), BLOCK_ROWS):
                part = values.slice(start, BLOCK_ROWS)
                rows = RawRows(part, records=len(part))
                yield to_block(rows, file=file, first_record=record, strip=strip)
                record += len(part)

    return not_without_uid(blocks(), file)


def not_without_uid(blocks: Iterable[Block], file: str) -> Iterator[Block]:
    """Yield the blocks of a file; raise `EmptyExportError` at the end if no record has a uid."""
    uids = 0
    skipped: Counter[str] = Counter()
    for block in blocks:
        uids += len(block.uids)
        for run in block.skipped if not uids else ():
            skipped[run.reason] += run.count
        yield block
    if not uids:
        raise no_uids([file], skipped)


def no_uids(
    names: Sequence[str], skipped: Mapping[str, int] = MappingProxyType({})
) -> EmptyExportError:
    """Return the error for files without a uid; `skipped` counts their records by reason."""
    where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    rows = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
    found = f" ({counted(sum(skipped.values()), 'row')} read: {rows})" if rows else ""
    hint = "check what writes the export"
    if NOT_UTF8 in skipped:
        hint = "is it in another encoding? iconv -f latin1 -t UTF-8 converts Latin-1"
    return EmptyExportError(f"{where}: nothing to send, no row holds a uid{found}", hint=hint)
