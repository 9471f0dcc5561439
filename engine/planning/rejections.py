"""Looks up which uids the API has rejected, partition by partition."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.uid_hash import Partition, hashes


@dataclass(frozen=True, slots=True)
class Rejected:
    """For some uids, whether they were rejected since a run, and may not be sent again yet."""

    is_rejected: npt.NDArray[np.bool_]
    """Whether the last rejection is no older than the uid's last change."""
    is_due: npt.NDArray[np.bool_]
    """Whether a rejected uid is due to be sent again; False for others."""

    @property
    def waits(self) -> npt.NDArray[np.bool_]:
        """Whether the uid is not sent in this plan."""
        return self.is_rejected & ~self.is_due


class Rejections:
    """The rejections of one operation, by hash."""

    def __init__(self, rows: pa.Table) -> None:
        keys = hashes(rows["uid"].combine_chunks())
        order = np.argsort(keys)
        self._keys = keys[order]
        self._rows = rows.take(pa.array(order)).combine_chunks()

    @classmethod
    def of_both(cls, rejections: pa.Table) -> tuple[Self, Self]:
        """Return the rejected adds and the rejected removes of a table of `REJECTIONS`."""
        wanted = rejections["wanted"]
        return cls(rejections.filter(wanted)), cls(rejections.filter(pc.invert(wanted)))

    def of(
        self, partition: Partition, uids: pa.BinaryArray, since: npt.NDArray[np.int32]
    ) -> Rejected:
        """Return what is known of uids of one partition that last changed in the runs `since`."""
        first = int(np.searchsorted(self._keys, np.uint64(partition.first), "left"))
        end = int(np.searchsorted(self._keys, np.uint64(partition.last), "right"))
        if first == end:
            nothing = np.zeros(len(uids), np.bool_)
            return Rejected(nothing, nothing)
        rows = self._rows.slice(first, end - first)
        places = pc.index_in(uids, value_set=rows["uid"].combine_chunks())
        # A null stands for no rejection: a run before all others.
        runs = pc.fill_null(rows["run"].take(places), -1).to_numpy()
        is_due = pc.fill_null(rows["is_due"].take(places), fill_value=False).to_numpy()
        is_rejected = runs >= since
        return Rejected(is_rejected, is_rejected & is_due)
