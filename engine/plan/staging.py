"""An export read to its end, once, into a file that can be compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.batch import SkippedRows, blank_among, invalid_among
from engine.plan.files import new_file
from engine.plan.records import Staged
from engine.source.block import Block

UIDS = pa.schema([pa.field("uid", pa.binary(), nullable=False)])
_ROWS_A_GROUP = 1_000_000


def stage(
    blocks: Iterable[Block],
    path: Path,
    *,
    keep: Callable[[Sequence[SkippedRows]], None] = lambda _: None,
    look: Callable[[pa.StringArray], None] = lambda _: None,
) -> Staged:
    """Write the uids of `blocks` to `path`, duplicates and all, in the export's order.

    `keep` gets the rows that plan no uid, block by block; `look` gets the uids of each block.
    Raises `SourceError` as reading does, and `OSError`.
    """
    rows_read = blank = invalid = uids = uid_bytes = 0
    with new_file(path) as file, _writer(file, UIDS) as writer:
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
            writer.write_batch(pa.record_batch([block.uids.cast(pa.binary())], schema=UIDS))
    return Staged(path, rows_read, blank, invalid, uids, uid_bytes)


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a Parquet file, durably."""
    with new_file(path) as file, _writer(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=_ROWS_A_GROUP)


def _writer(file: object, schema: pa.Schema) -> pq.ParquetWriter:
    # Uids hardly ever repeat, nor do hex digits compress well at speed.
    return pq.ParquetWriter(
        file, schema, compression="lz4", use_dictionary=False, write_statistics=False
    )


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows, in order, a few megabytes at a time."""
    with pq.ParquetFile(path, memory_map=False) as file:
        yield from file.iter_batches(batch_size=65_536, columns=list(columns))
