"""What each change of a plan is sent with: at once, later, as a retry, or not at all."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.model.cohort import Operation
from engine.planning.conditions import Conditions
from engine.planning.rejections import Rejections
from engine.snapshot.records import UidState
from engine.storage.uid_hash import Partition


class Kind(IntEnum):
    """What an operation's uid is sent with; the operation's file has this order."""

    PLAIN = 0
    SUSPECT = 1
    """It was rejected, and is tried again."""
    HELD = 2
    """It waits until the API has applied what was sent before."""
    KNOWN = 3
    """It was rejected, and is not sent."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What decides the kinds of one operation."""

    rejections: Rejections
    reversed_states: tuple[UidState, UidState]
    """The states that the operation reverses."""
    all_wait: bool


class ChangeKinds:
    """Finds the kind of each change under some conditions; several threads may use it.

    Uids are those of one partition.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._recent = np.array(conditions.recent_runs, np.int32)
        adds, removes = Rejections.of_both(conditions.rejections)
        self._rules = {
            Operation.ADD: _Rule(
                adds, (UidState.OUT, UidState.MAY_BE_OUT), conditions.waiting.adds
            ),
            Operation.REMOVE: _Rule(
                removes, (UidState.IN, UidState.MAY_BE_IN), conditions.waiting.removes
            ),
        }

    def of(
        self,
        operation: Operation,
        uids: pa.BinaryArray,
        was: npt.NDArray[np.uint8],
        was_run: npt.NDArray[np.int32],
        partition: Partition,
    ) -> npt.NDArray[np.uint8]:
        """Return the kinds of adds or removes; `was` is each uid's state, since `was_run`.

        A rejection is void once the uid has changed later.
        """
        rule = self._rules[operation]
        rejected = rule.rejections.of(partition, uids, was_run)
        reverses = np.isin(was_run, self._recent) & np.isin(was, rule.reversed_states)
        return np.select(
            [rejected.waits, reverses | rule.all_wait, rejected.is_rejected],
            [np.uint8(Kind.KNOWN), np.uint8(Kind.HELD), np.uint8(Kind.SUSPECT)],
            np.uint8(Kind.PLAIN),
        )

    def may_be_resent(self, uids: pa.BinaryArray, partition: Partition) -> npt.NDArray[np.bool_]:
        """Return which members may be sent again; a rejection counts whatever came later."""
        ever = np.zeros(len(uids), np.int32)
        return ~self._rules[Operation.ADD].rejections.of(partition, uids, ever).waits
