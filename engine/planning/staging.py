"""Reads an export completely, once, into a file that can be compared."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.payload.batch import RowCounter
from engine.snapshot.records import Staged
from engine.source.block import Block
from engine.storage.uid_parquet import UIDS, open_writer


def stage(
    blocks: Iterable[Block],
    path: Path,
    *,
    counts: RowCounter | None = None,
    observe: Sequence[Callable[[Block], None]] = (),
) -> Staged:
    """Write the uids of `blocks` to `path`, including duplicates, in the export's order.

    `counts` is updated for each block, so that it is correct even if reading fails. Each of
    `observe` is called with each block. Raises `SourceError` as reading does, and the errors of
    `new_file`.
    """
    counts = counts or RowCounter()
    uids = uid_bytes = 0
    with open_writer(path, UIDS) as writer:
        for block in blocks:
            counts.add(block)
            for each in observe:
                each(block)
            uids += len(block.uids)
            uid_bytes += pc.sum(pc.binary_length(block.uids)).as_py() or 0
            writer.write(pa.record_batch([block.uids.cast(pa.binary())], schema=UIDS))
    return Staged(path, counts.records, counts.blank, counts.invalid, uids, uid_bytes)
