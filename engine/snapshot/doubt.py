"""A restored snapshot: each of its uids may have changed after the backup."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.snapshot.partitions import Known, rewrite_each
from engine.snapshot.records import Snapshot, UidState
from engine.snapshot.store import RESTORED, SnapshotStore
from engine.storage.computation import Interruption

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

    def doubt(target: Path, interruption: Interruption) -> Snapshot:
        rows = store.as_file(snapshot, interruption)
        return rewrite_each(rows, _doubted, target, store.compute_options(interruption))

    await store.make(RESTORED, store.of_rows(doubt))
    return True


def _doubted(
    known: Known, _: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return an unknown state since an unknown run for each uid."""
    return _DOUBTED[known.state], np.zeros(len(known.run), np.int32)
