"""Compares the export with the snapshot in one partition, which is in memory."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.planning.conditions import Conditions
from engine.planning.rejections import Rejections
from engine.snapshot.partitions import Known
from engine.snapshot.records import UidState
from engine.storage.uid_groups import UidGroups, group_uids
from engine.storage.uid_hash import Partition
from engine.storage.uid_parquet import schema_of

REDUCED = schema_of(uid=pa.binary(), row=pa.int64(), n=pa.int64())
"""Rows of the export by uid: its first row, and the number of its rows."""
CHANGES = schema_of(
    uid=pa.binary(), was=pa.uint8(), was_run=pa.int32(), row=pa.int64(), kind=pa.uint8()
)
"""`was` is the uid's `UidState` in the snapshot, 0 if it had none; `was_run` that state's run;
`row` its first row in the export, 0 if it has none; `kind` a `Kind`."""
MEMBERS = schema_of(uid=pa.binary(), run=pa.int32())
"""Members, and the run since which they are."""


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
class Differences:
    """The differences in one partition."""

    adds: pa.RecordBatch
    """Of the schema `CHANGES`, as `removes`; in the order of the uids' hashes."""
    removes: pa.RecordBatch
    added_rows: int
    """The export's rows of the added uids."""
    excluded_rows: int
    unchanged: int
    """Members that remain members."""
    resendable: pa.RecordBatch | None
    """Those that may be sent again, of the schema `MEMBERS`; None if that is not asked for."""


def first_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Reduce rows of the export to `REDUCED`; those of equal uids are in the export's order."""
    groups = group_uids([rows["uid"]])
    uids = groups.uids.take(pa.array(groups.order[groups.starts]))
    numbers = rows["row"].to_numpy()[groups.order[groups.starts]]
    counts = _sums(groups, _weights(rows))
    return pa.record_batch([uids, pa.array(numbers), pa.array(counts)], schema=REDUCED)


def _weights(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return how many rows of the export each row stands for."""
    if "n" not in rows.schema.names:
        return np.ones(len(rows), np.int64)
    counts: npt.NDArray[np.int64] = rows["n"].to_numpy()
    return counts


def _sums(groups: UidGroups, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sum of the rows' weights by group."""
    totals = np.concatenate(([0], np.cumsum(weights[groups.order])))
    return totals[groups.ends] - totals[groups.starts]


class Comparer:
    """Finds the differences under some conditions; several threads may use it."""

    def __init__(self, conditions: Conditions) -> None:
        self._recent = np.array(conditions.recent_runs, np.int32)
        self._waiting = conditions.waiting
        self._rejected_adds, self._rejected_removes = Rejections.of_both(conditions.rejections)
        self._resends = conditions.resend is not None

    def compare(
        self,
        partition: Partition,
        base: pa.RecordBatch,
        export: pa.RecordBatch,
        excluded: pa.RecordBatch | None,
        hashes: npt.NDArray[np.uint64] | None = None,
    ) -> Differences:
        """Compare the rows of one partition.

        `base` has the columns of a snapshot, `export` those of a staged export or `REDUCED`;
        `hashes` are those of the base, if they are known.
        Raises `LedgerError` if the base contains a uid twice.
        """
        columns = [base["uid"], export["uid"]]
        if excluded is not None:
            columns.append(excluded["uid"])
        groups = group_uids(columns, partition.bits, hashes)
        known = Known.of(base, groups)
        is_excluded = groups.order[groups.ends - 1] >= len(base) + len(export)
        weights = np.zeros(len(groups.order), np.int64)
        weights[len(base) : len(base) + len(export)] = _weights(export)
        rows = _sums(groups, weights)
        wanted = (rows > 0) & ~is_excluded

        def chosen(places: npt.NDArray[np.int64]) -> _Chosen:
            uids = groups.uids.take(pa.array(known.first[places]))
            return _Chosen(uids, known.state[places], known.run[places])

        added = np.flatnonzero(wanted & (known.state != UidState.IN))
        removed = np.flatnonzero(~wanted & known.is_known & (known.state != UidState.OUT))
        is_member = wanted & (known.state == UidState.IN)
        # The first row in the export follows the row of the base, if there is one.
        in_export = groups.order[groups.starts[added] + known.is_known[added]] - len(base)
        numbers = export["row"].to_numpy()[in_export]
        return Differences(
            self._adds(partition, chosen(added), numbers),
            self._removes(partition, chosen(removed)),
            int(rows[added].sum()),
            int(rows[is_excluded].sum()),
            int(np.count_nonzero(is_member)),
            self._resendable(partition, chosen(np.flatnonzero(is_member)))
            if self._resends
            else None,
        )

    def _adds(
        self, partition: Partition, uids: "_Chosen", numbers: npt.NDArray[np.int64]
    ) -> pa.RecordBatch:
        reversed_by = (UidState.OUT, UidState.MAY_BE_OUT)
        kinds = self._kinds(partition, uids, self._rejected_adds, reversed_by, self._waiting.adds)
        return uids.changes(numbers, kinds)

    def _removes(self, partition: Partition, uids: "_Chosen") -> pa.RecordBatch:
        reversed_by = (UidState.IN, UidState.MAY_BE_IN)
        waiting = self._waiting.removes
        kinds = self._kinds(partition, uids, self._rejected_removes, reversed_by, waiting)
        return uids.changes(np.zeros(len(kinds), np.int64), kinds)

    def _kinds(
        self,
        partition: Partition,
        uids: "_Chosen",
        rejections: Rejections,
        reversed_by: tuple[UidState, UidState],
        all_wait: bool,  # noqa: FBT001 - one of the values that it is judged by
    ) -> npt.NDArray[np.uint8]:
        """Return the kind of each uid; a rejection is void once the uid has changed later."""
        rejected = rejections.of(partition, uids.uids, uids.was_run)
        waits = np.isin(uids.was_run, self._recent) & np.isin(uids.was, reversed_by) | all_wait
        return np.select(
            [rejected.waits, waits, rejected.is_rejected],
            [np.uint8(Kind.KNOWN), np.uint8(Kind.HELD), np.uint8(Kind.SUSPECT)],
            np.uint8(Kind.PLAIN),
        )

    def _resendable(self, partition: Partition, members: "_Chosen") -> pa.RecordBatch:
        """Return the members that may be sent again; a rejection counts whatever came later."""
        ever = np.zeros(len(members.uids), np.int32)
        rejected = self._rejected_adds.of(partition, members.uids, ever)
        found = pa.record_batch([members.uids, pa.array(members.was_run)], schema=MEMBERS)
        return found.filter(pa.array(~rejected.waits))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some uids, and what the snapshot knows of them."""

    uids: pa.BinaryArray
    was: npt.NDArray[np.uint8]
    was_run: npt.NDArray[np.int32]

    def changes(
        self, numbers: npt.NDArray[np.int64], kinds: npt.NDArray[np.uint8]
    ) -> pa.RecordBatch:
        """Return them as rows of the schema `CHANGES`."""
        columns = [self.was, self.was_run, numbers, kinds]
        return pa.record_batch([self.uids, *map(pa.array, columns)], schema=CHANGES)
