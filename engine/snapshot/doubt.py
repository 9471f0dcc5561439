"""A restored snapshot: each of its uids may have changed after the backup."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.snapshot.file_format import SNAPSHOT, describe
from engine.snapshot.records import Snapshot, UidState
from engine.snapshot.store import RESTORED, SnapshotStore
from engine.storage.computation import Interruption
from engine.storage.uid_parquet import read_batches, write_batches

_DOUBTED = np.zeros(max(UidState) + 1, np.uint8)
for _state in UidState:
    _is_in = _state in {UidState.IN, UidState.MAY_BE_IN}
    _DOUBTED[_state] = UidState.MAY_BE_IN if _is_in else UidState.MAY_BE_OUT


async def doubt_all(store: SnapshotStore) -> bool:
    """Make the current snapshot one in which each uid is unknown; return whether there is one.

    All that was sent is folded into it first. Raises as `SnapshotStore.current`.
    """
    await store.catch_up()
    current = await store.current()
    if current is None:
        return False
    _, snapshot = current

    def rewrite(target: Path, _: Interruption) -> Snapshot:
        write_batches(target, SNAPSHOT, _doubted(snapshot.path), "zstd")
        return describe(target)

    await store.make(RESTORED, rewrite)
    return True


def _doubted(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a snapshot, each in an unknown state since an unknown run."""
    for rows in read_batches(path, SNAPSHOT.names):
        states = pa.array(_DOUBTED[rows["state"].to_numpy()])
        runs = pa.array(np.zeros(len(rows), np.int32))
        yield pa.record_batch([rows["uid"], states, runs], schema=SNAPSHOT)
