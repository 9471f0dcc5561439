"""Reads an export completely, once, into a spool or a table of uids that can be compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.payload.batch import RowCounter
from engine.snapshot.records import Staged, UidList
from engine.source.block import Block
from engine.storage.uid_parquet import schema_of

EXPORT = schema_of(uid=pa.binary(), row=pa.int64())
"""The rows of a staged export; `row` is the number of the row, from 0, from which its place in the
export's files is found."""


def stage(
    blocks: Iterable[Block],
    spool: UidList,
    *,
    counts: RowCounter | None = None,
    observe: Sequence[Callable[[Block], None]] = (),
) -> Staged:
    """Write the uids of `blocks`, including duplicates, to a list of the schema `EXPORT`.

    `counts` is updated for each block, so that it is correct even if reading fails. Each of
    `observe` is called with each block. Raises `SourceError` as reading does, and the errors of
    `UidList.write`.
    """
    counts = counts or RowCounter()
    rows = _Rows(spool)
    for block, numbers in _numbered(blocks, counts, observe):
        rows.write(block.uids, numbers)
    return rows.staged(counts)


def stage_changes(
    blocks: Iterable[Block],
    adds: UidList,
    removes: UidList,
    *,
    counts: RowCounter | None = None,
    observe: Sequence[Callable[[Block], None]] = (),
) -> tuple[Staged, Staged]:
    """Write the uids that are to be added to one list, and those to be removed to another.

    The rows of both are numbered together: of two rows of a uid, the one with the greater number is
    later. Of the counts, only `uids` and `uid_bytes` are each list's own. See `stage`.
    """
    counts = counts or RowCounter()
    added, removed = _Rows(adds), _Rows(removes)
    for block, numbers in _numbered(blocks, counts, observe):
        if block.is_remove is None:
            raise TypeError("the records of a list of changes say add or remove")
        for rows, is_meant in ((added, ~block.is_remove), (removed, block.is_remove)):
            mask = pa.array(is_meant)
            rows.write(block.uids.filter(mask), numbers.filter(mask))
    return added.staged(counts), removed.staged(counts)


def _numbered(
    blocks: Iterable[Block], counts: RowCounter, observe: Sequence[Callable[[Block], None]]
) -> Iterator[tuple[Block, pa.Int64Array]]:
    """Yield each block, counted and observed, with the numbers of its uids' rows."""
    uids = 0
    for block in blocks:
        counts.add(block)
        for each in observe:
            each(block)
        yield block, pa.array(np.arange(uids, uids + len(block.uids)))
        uids += len(block.uids)


@dataclass(slots=True)
class _Rows:
    """A list that is being written, and what it has so far."""

    list: UidList
    uids: int = 0
    bytes: int = 0

    def write(self, uids: pa.StringArray, numbers: pa.Int64Array) -> None:
        self.list.write(pa.record_batch([uids.cast(pa.binary()), numbers], schema=EXPORT))
        self.uids += len(uids)
        self.bytes += pc.sum(pc.binary_length(uids)).as_py() or 0

    def staged(self, counts: RowCounter) -> Staged:
        self.list.finish()
        read = counts.records, counts.blank, counts.invalid
        return Staged(self.list, *read, self.uids, self.bytes)
