"""What each change of a plan is sent with: at once, later, as a retry, or not at all."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.planning.conditions import Conditions
from engine.planning.rejections import Rejections
from engine.snapshot.records import UidState
from engine.storage.uid_hash import WHOLE, Partition


class Kind(IntEnum):
    """What an operation's uid is sent with; the operation's file has this order."""

    PLAIN = 0
    SUSPECT = 1
    """It was rejected, and is tried again."""
    HELD = 2
    """It waits until the API has applied what was sent before."""
    KNOWN = 3
    """It was rejected, and is not sent."""


class ChangeKinds:
    """Finds the kind of each change under some conditions; several threads may use it.

    Uids are those of one partition.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._recent = np.array(conditions.recent_runs, np.int32)
        self._waiting = conditions.waiting
        self._rejected_adds, self._rejected_removes = Rejections.of_both(conditions.rejections)

    def of_adds(
        self,
        uids: pa.BinaryArray,
        was: npt.NDArray[np.uint8],
        was_run: npt.NDArray[np.int32],
        partition: Partition = WHOLE,
    ) -> npt.NDArray[np.uint8]:
        """Return the kinds of adds; `was` is each uid's state in the snapshot, since `was_run`."""
        rejected = self._rejected_adds.of(partition, uids, was_run)
        waits = self._reverses(was, was_run, UidState.OUT, UidState.MAY_BE_OUT)
        return _kinds(rejected.waits, waits | self._waiting.adds, rejected.is_rejected)

    def of_removes(
        self,
        uids: pa.BinaryArray,
        was: npt.NDArray[np.uint8],
        was_run: npt.NDArray[np.int32],
        partition: Partition = WHOLE,
    ) -> npt.NDArray[np.uint8]:
        """Return the kinds of removes; the parameters are those of `of_adds`."""
        rejected = self._rejected_removes.of(partition, uids, was_run)
        waits = self._reverses(was, was_run, UidState.IN, UidState.MAY_BE_IN)
        return _kinds(rejected.waits, waits | self._waiting.removes, rejected.is_rejected)

    def may_be_resent(
        self, uids: pa.BinaryArray, partition: Partition = WHOLE
    ) -> npt.NDArray[np.bool_]:
        """Return which members may be sent again; a rejection counts whatever came later."""
        ever = np.zeros(len(uids), np.int32)
        return ~self._rejected_adds.of(partition, uids, ever).waits

    def _reverses(
        self, was: npt.NDArray[np.uint8], was_run: npt.NDArray[np.int32], *states: UidState
    ) -> npt.NDArray[np.bool_]:
        """Return which changes reverse one that the API may not have applied yet."""
        return np.isin(was_run, self._recent) & np.isin(was, states)


def _kinds(
    is_known: npt.NDArray[np.bool_],
    is_held: npt.NDArray[np.bool_],
    is_suspect: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:
    """Return the kind of each change; a rejection is void once the uid has changed later."""
    return np.select(
        [is_known, is_held, is_suspect],
        [np.uint8(Kind.KNOWN), np.uint8(Kind.HELD), np.uint8(Kind.SUSPECT)],
        np.uint8(Kind.PLAIN),
    )
