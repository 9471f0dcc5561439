"""The next snapshot: the last one, with the later outcomes of a run's batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.partitions import CHANGE, NO_CHANGE, Changes, Known, lowest_states, rewrite
from engine.snapshot.records import Snapshot, UidState
from engine.storage.computation import ComputeOptions
from engine.storage.uid_groups import distinct
from engine.storage.uid_spool import Side, Spool, open_spool

_STATES = {
    (Operation.ADD, True): UidState.IN,
    (Operation.ADD, False): UidState.MAY_BE_IN,
    (Operation.REMOVE, True): UidState.OUT,
    (Operation.REMOVE, False): UidState.MAY_BE_OUT,
}
"""An operation that is sent again changes nothing: members remain members."""


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What a run has changed: the uids that it keeps, and the outcomes of some of them."""

    run: int
    operations: Sequence[OperationUids]
    outcomes: Sequence[RangeOutcome]
    """Disjoint; uids without an outcome are unchanged."""
    recent_runs: Sequence[int]
    """A uid that is out is kept as long as its run is one of these."""


def fold(
    base: Snapshot | None, changes: RunChanges, target: Path, options: ComputeOptions
) -> Snapshot:
    """Write the generation after `base` to `target`; the same arguments give the same file.

    Raises as `rewrite` and `open_spool` do, and `LedgerError` if uids that have an outcome are no
    longer kept.
    """
    with open_spool(target.parent, CHANGE, options.settings) as spool:
        for rows in options.interruption.until_tripped(changed_states(changes)):
            spool.write(rows)
        spool.finish()
        next_of = partial(_next, changes.run, np.array(changes.recent_runs, np.int32))
        changed = Changes(Side(spool, lowest_states))
        return rewrite(changed, base, next_of, target, options)


def _next(
    run: int, recent: npt.NDArray[np.int32], known: Known, change: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return the states after a run.

    A uid may be in an export twice: of two outcomes the certain one counts. An operation that may
    have been applied has changed nothing if the uid was already in that state. It still counts as
    sent, since an operation that reverses it has to wait. A uid that was not known may have been a
    member: somebody else may have added it.
    """
    state = np.select(
        [
            change == NO_CHANGE,
            (change == UidState.MAY_BE_IN) & (known.state == UidState.IN),
            (change == UidState.MAY_BE_OUT) & (known.state == UidState.OUT),
        ],
        [known.state, known.state, np.uint8(UidState.OUT)],
        change,
    )
    runs = np.where(change == NO_CHANGE, known.run, np.int32(run))
    is_forgotten = (state == UidState.OUT) & ~np.isin(runs, recent)
    return np.where(is_forgotten, np.uint8(0), state), runs


def adopt(
    base: Snapshot | None, staged: Spool, state: UidState, target: Path, options: ComputeOptions
) -> Snapshot:
    """Write `base` and, in `state`, each uid of `staged` that it does not hold.

    The added uids have the run 0. A uid that was out becomes unknown, and keeps its run: a late
    remove may still be applied. Raises as `rewrite` does.
    """

    def states(rows: pa.RecordBatch) -> npt.NDArray[np.uint8]:
        return np.full(len(rows), state, np.uint8)

    return rewrite(Changes(Side(staged, distinct), states), base, _adopted, target, options)


def _adopted(
    known: Known, change: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return the states after an adoption."""
    is_listed = change != NO_CHANGE
    returns = is_listed & (known.state == UidState.OUT)
    state = np.select(
        [returns, known.is_known], [np.uint8(UidState.MAY_BE_OUT), known.state], change
    )
    return state, known.run


def changed_states(changes: RunChanges) -> Iterator[pa.RecordBatch]:
    """Yield the uids that a run may have changed, in their new state, of the schema `CHANGE`.

    Of a uid that is yielded twice, the lowest state counts.
    """
    for uids in changes.operations:
        yield from _changed(uids, changes.outcomes)


def _changed(uids: OperationUids, outcomes: Sequence[RangeOutcome]) -> Iterator[pa.RecordBatch]:
    """Yield the uids of an operation that may have changed, in their new state."""
    for changed, is_accepted in uids.with_outcome(outcomes):
        states = np.where(
            is_accepted, _STATES[uids.operation, True], _STATES[uids.operation, False]
        )
        yield pa.record_batch([changed, pa.array(states.astype(np.uint8))], schema=CHANGE)
