"""An export read to its end, once, into a file that can be compared."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.payload.batch import SkippedRows, blank_among, invalid_among
from engine.snapshot.records import Staged
from engine.source.block import Block
from engine.storage.uid_parquet import UIDS, open_writer


def stage(
    blocks: Iterable[Block],
    path: Path,
    *,
    keep: Callable[[Sequence[SkippedRows]], None] = lambda _: None,
    look: Callable[[pa.StringArray], None] = lambda _: None,
) -> Staged:
    """Write the uids of `blocks` to `path`, duplicates and all, in the export's order.

    `keep` gets the rows that plan no uid, block by block; `look` gets the uids of each block.
    Raises `SourceError` as reading does, and what `new_file` raises.
    """
    rows_read = blank = invalid = uids = uid_bytes = 0
    with open_writer(path, UIDS) as writer:
        for block in blocks:
            skipped = [SkippedRows(block.file, rows) for rows in block.skipped]
            if skipped:
                keep(skipped)
            look(block.uids)
            rows_read += block.records
            blank += blank_among(skipped)
            invalid += invalid_among(skipped)
            uids += len(block.uids)
            uid_bytes += pc.sum(pc.binary_length(block.uids)).as_py() or 0
            writer.write(pa.record_batch([block.uids.cast(pa.binary())], schema=UIDS))
    return Staged(path, rows_read, blank, invalid, uids, uid_bytes)
