"""Compares the export with the snapshot in one partition, which is in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.model.cohort import Operation
from engine.planning.change_kinds import ChangeKinds
from engine.planning.conditions import Conditions
from engine.snapshot.partitions import in_hash_order
from engine.snapshot.records import UidState
from engine.storage.uid_groups import UidGroups, find_rows, group_uids
from engine.storage.uid_hash import Partition
from engine.storage.uid_parquet import schema_of

REDUCED = schema_of(uid=pa.binary(), row=pa.int64(), n=pa.int64())
"""Rows of the export by uid: its first row, or the last one of a list of changes, and the number of
its rows."""
CHANGES = schema_of(
    uid=pa.binary(), was=pa.uint8(), was_run=pa.int32(), row=pa.int64(), kind=pa.uint8()
)
"""`was` is the uid's `UidState` in the snapshot, 0 if it had none; `was_run` that state's run;
`row` its first row in the export, 0 if it has none, or for a list of changes the last row; `kind` a
`Kind`."""
MEMBERS = schema_of(uid=pa.binary(), run=pa.int32())
"""Members, and the run since which they are."""


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences in one partition."""

    adds: pa.RecordBatch
    """Of the schema `CHANGES`, as `removes`; in the order of the uids' hashes."""
    removes: pa.RecordBatch
    differing_rows: int
    """The export's rows of the added uids; of a list of changes, also of the removed ones."""
    excluded_rows: int
    unchanged: int
    """Members that remain members; of a list of changes, uids that are as it says."""
    resendable: pa.RecordBatch | None
    """Those that may be sent again, of the schema `MEMBERS`; None if that is not asked for."""


def first_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Reduce rows of the export to `REDUCED`; those of equal uids are in the export's order."""
    return _reduced(rows, lambda groups: groups.starts)


def last_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Reduce rows of a list of changes to `REDUCED`, as `first_rows` does."""
    return _reduced(rows, lambda groups: groups.ends - 1)


def _reduced(
    rows: pa.RecordBatch, places: Callable[[UidGroups], npt.NDArray[np.int64]]
) -> pa.RecordBatch:
    """Keep one row of each uid; `places` returns where it is in the order of the groups."""
    groups = group_uids([rows["uid"]])
    kept = groups.order[places(groups)]
    numbers = rows["row"].to_numpy()[kept]
    columns = [groups.uids.take(pa.array(kept)), pa.array(numbers), pa.array(_rows(groups, rows))]
    return pa.record_batch(columns, schema=REDUCED)


def _rows(groups: UidGroups, export: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return how many rows of the export each group has; `export` is its first column."""
    if "n" in export.schema.names:
        each = export["n"].to_numpy()
    elif len(export) == len(groups.order):
        return groups.ends - groups.starts
    else:
        each = np.ones(len(export), np.int64)
    weights = np.zeros(len(groups.order), np.int64)
    weights[: len(export)] = each
    totals = np.concatenate(([0], np.cumsum(weights[groups.order])))
    return totals[groups.ends] - totals[groups.starts]


def _latest(
    groups: UidGroups, lists: Sequence[pa.RecordBatch]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the latest row of each uid, and the number of its rows.

    A row is twice its number, and one more if it says remove; -1 if a uid has none.
    """
    adds, removes = lists[:2]
    latest = np.full(len(groups.order), -1, np.int64)
    rows = np.zeros(len(groups.order), np.int64)
    start = 0
    for each, says_remove in ((adds, 0), (removes, 1)):
        part = slice(start, start + len(each))
        latest[part] = each["row"].to_numpy() * 2 + says_remove
        rows[part] = each["n"].to_numpy() if "n" in each.schema.names else 1
        start = part.stop
    if not len(groups.order):
        return latest, rows
    return (
        np.maximum.reduceat(latest[groups.order], groups.starts),
        np.add.reduceat(rows[groups.order], groups.starts),
    )


class Comparer:
    """Finds the differences under some conditions; several threads may use it."""

    def __init__(self, conditions: Conditions) -> None:
        self._kinds = ChangeKinds(conditions)
        self._resends = conditions.resend is not None
        self.lists_changes = conditions.removals is not None
        """Whether the export is a list of changes, for `compare_changes`."""

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
        base, keys = in_hash_order(base, hashes)
        lists = [export["uid"]] if excluded is None else [export["uid"], excluded["uid"]]
        groups = group_uids(lists, partition.bits)
        rows = _rows(groups, export)
        is_excluded = groups.order[groups.ends - 1] >= len(export)
        wanted = (rows > 0) & ~is_excluded
        first = groups.order[groups.starts]
        uids = groups.uids.take(pa.array(first))
        places = find_rows(base["uid"], keys, uids, groups.hashes[first])
        # The place -1 is that of a further row, which stands for the uids without one.
        columns = [base[name].to_numpy() for name in ("state", "run")]
        states, runs = (np.append(each, each.dtype.type(0)) for each in columns)
        is_member = wanted & (states[places] == UidState.IN)
        stays = np.zeros(len(states), np.bool_)
        stays[places[wanted]] = True

        added = np.flatnonzero(wanted & ~is_member)
        was_added = places[added]
        removed = np.flatnonzero(~stays[:-1] & (states[:-1] != UidState.OUT))
        members = places[is_member]
        return Differences(
            self._changes(
                Operation.ADD,
                partition,
                _Chosen(uids.take(pa.array(added)), states[was_added], runs[was_added]),
                export["row"].to_numpy()[first[added]],
            ),
            self._changes(
                Operation.REMOVE,
                partition,
                _Chosen.of(base, removed),
                np.zeros(len(removed), np.int64),
            ),
            int(rows[added].sum()),
            int(rows[is_excluded].sum()),
            len(members),
            self._resendable(partition, _Chosen.of(base, members)) if self._resends else None,
        )

    def compare_changes(
        self,
        partition: Partition,
        base: pa.RecordBatch,
        lists: Sequence[pa.RecordBatch],
        hashes: npt.NDArray[np.uint64] | None = None,
    ) -> Differences:
        """Compare the rows of one partition of a list of changes; see `compare`.

        `lists` are the rows that say add, those that say remove, and the excluded uids if any are.
        """
        base, keys = in_hash_order(base, hashes)
        groups = group_uids([each["uid"] for each in lists], partition.bits)
        latest, rows = _latest(groups, lists)
        first = groups.order[groups.starts]
        uids = groups.uids.take(pa.array(first))
        places = find_rows(base["uid"], keys, uids, groups.hashes[first])
        # The place -1 is that of a further row, which stands for the uids without one.
        columns = [base[name].to_numpy() for name in ("state", "run")]
        states, runs = (np.append(each, each.dtype.type(0))[places] for each in columns)

        is_excluded = groups.order[groups.ends - 1] >= len(lists[0]) + len(lists[1])
        is_listed = latest >= 0
        says_remove = is_listed & (latest % 2 == 1)
        is_wanted = is_listed & ~says_remove & ~is_excluded
        is_added = is_wanted & (states != UidState.IN)
        # An excluded uid is not added; it is removed if it is known, and not known to be out.
        left_out = is_listed & ~says_remove & is_excluded
        is_removed = (says_remove | (left_out & (places >= 0))) & (states != UidState.OUT)
        is_same = (is_wanted & ~is_added) | (says_remove & ~is_removed)

        def changes(operation: Operation, mask: npt.NDArray[np.bool_]) -> pa.RecordBatch:
            found = _Chosen(uids.filter(pa.array(mask)), states[mask], runs[mask])
            return self._changes(operation, partition, found, latest[mask] // 2)

        return Differences(
            changes(Operation.ADD, is_added),
            changes(Operation.REMOVE, is_removed),
            int(rows[is_added | is_removed].sum()),
            int(rows[left_out & ~is_removed].sum()),
            int(np.count_nonzero(is_same)),
            None,
        )

    def _changes(
        self,
        operation: Operation,
        partition: Partition,
        uids: "_Chosen",
        numbers: npt.NDArray[np.int64],
    ) -> pa.RecordBatch:
        kinds = self._kinds.of(operation, uids.uids, uids.was, uids.was_run, partition)
        columns = [uids.was, uids.was_run, numbers, kinds]
        return pa.record_batch([uids.uids, *map(pa.array, columns)], schema=CHANGES)

    def _resendable(self, partition: Partition, members: "_Chosen") -> pa.RecordBatch:
        """Return the members that may be sent again."""
        found = pa.record_batch([members.uids, pa.array(members.was_run)], schema=MEMBERS)
        return found.filter(pa.array(self._kinds.may_be_resent(members.uids, partition)))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Some uids, and what the snapshot knows of them."""

    uids: pa.BinaryArray
    was: npt.NDArray[np.uint8]
    was_run: npt.NDArray[np.int32]

    @classmethod
    def of(cls, base: pa.RecordBatch, places: npt.NDArray[np.int64]) -> Self:
        """Return some uids of the snapshot."""
        rows = base.take(pa.array(places))
        return cls(rows["uid"], rows["state"].to_numpy(), rows["run"].to_numpy())
