"""The uids of a recorded push, kept batch by batch, so that the snapshot can follow what it sends.

A batch's file is on the disk before the batch can be sent, and its name tells the place of its
first uid: cut again after a crash, the same batch takes the same place.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from engine.model.cohort import Operation
from engine.payload.batch import Batch
from engine.storage.files import names_in
from engine.storage.uid_parquet import UIDS, write_batches


def recording(
    batches: Iterable[Batch], folder: Path, operation: Operation, known: int
) -> Iterator[Batch]:
    """Yield batches, each once its uids are kept in `folder`.

    The ledger knows of the first `known` uids: those are kept already, and what was kept behind
    them belongs to batches that a process that died had cut, but not entered.
    """
    for first_uid, path in recorded(folder, operation).items():
        if first_uid >= known:
            path.unlink()
    for batch in batches:
        if batch.first_uid >= known:
            path = folder / f"{operation.value}-{batch.first_uid:012}.parquet"
            write_batches(
                path, UIDS, [pa.record_batch([batch.uids.cast(pa.binary())], schema=UIDS)]
            )
        yield batch


def recorded(folder: Path, operation: Operation) -> dict[int, Path]:
    """Return the files kept of an operation, by the place of each one's first uid, ascending."""
    wanted = re.compile(rf"{operation.value}-([0-9]+)\.parquet")
    found = filter(None, map(wanted.fullmatch, names_in(folder)))
    return dict(sorted((int(match[1]), folder / match[0]) for match in found))
