"""The uids of a recorded push, kept batch by batch, so that the snapshot can follow what it sends.

A batch's file is on the disk before the batch can be sent, and its name tells the place of its
first uid: cut again after a crash, the same batch takes the same place.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from engine.model.cohort import Operation
from engine.payload.batch import Batch
from engine.payload.envelope import Envelope
from engine.storage.files import names_in
from engine.storage.paths import recorded_batch, recorded_path
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
            uids = pa.array(Envelope.uids_of(batch.payload), pa.string()).cast(pa.binary())
            path = recorded_path(folder, operation, batch.first_uid)
            write_batches(path, UIDS, [pa.record_batch([uids], schema=UIDS)])
        yield batch


def recorded(folder: Path, operation: Operation) -> dict[int, Path]:
    """Return the files kept of an operation, by the place of each one's first uid, ascending."""
    found = ((recorded_batch(name), folder / name) for name in names_in(folder))
    return dict(sorted((each[1], path) for each, path in found if each and each[0] is operation))
