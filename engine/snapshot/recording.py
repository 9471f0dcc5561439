"""The uids of a recorded push, kept batch by batch, so that the snapshot can follow what it sends.

A batch's file is on the disk before the batch can be sent, and its name holds the position of its
first uid: cut again after a crash, the same batch has the same position.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from engine.model.cohort import Operation
from engine.payload.batch import Batch
from engine.snapshot.operation_uids import batch_files
from engine.storage.paths import recorded_path
from engine.storage.uid_parquet import UIDS, write_batches


def recording(
    batches: Iterable[Batch], folder: Path, operation: Operation, known: int
) -> Iterator[Batch]:
    """Yield batches, each once its uids are kept in `folder`.

    The ledger holds the first `known` uids: those are kept already, and what was kept behind them
    belongs to batches that a process that died had cut, but not entered.
    """
    for first_uid, path in batch_files(folder, operation).items():
        if first_uid >= known:
            path.unlink()
    for batch in batches:
        if batch.first_uid >= known:
            path = recorded_path(folder, operation, batch.first_uid)
            rows = pa.record_batch([batch.uids.cast(pa.binary())], schema=UIDS)
            write_batches(path, UIDS, [rows])
        yield batch
