"""Reads an export completely, once, into a spool or a table of uids that can be compared."""

from collections.abc import Callable, Iterable, Sequence

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
    uids = uid_bytes = 0
    for block in blocks:
        counts.add(block)
        for each in observe:
            each(block)
        numbers = pa.array(np.arange(uids, uids + len(block.uids)))
        spool.write(pa.record_batch([block.uids.cast(pa.binary()), numbers], schema=EXPORT))
        uids += len(block.uids)
        uid_bytes += pc.sum(pc.binary_length(block.uids)).as_py() or 0
    spool.finish()
    return Staged(spool, counts.records, counts.blank, counts.invalid, uids, uid_bytes)
