"""The rows of a snapshot by partition, and the rewriting of a snapshot in the order of the hash."""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import LedgerError
from engine.snapshot.records import Snapshot
from engine.snapshot.sorted_file import SNAPSHOT, Layout, bits_for, rows_of_partition, write_sorted
from engine.storage.capacity import partition_bytes, threads_for
from engine.storage.computation import ComputeOptions, in_order, within_memory
from engine.storage.uid_groups import UidGroups, group_uids
from engine.storage.uid_hash import WHOLE, Partition, hashes, stable_order
from engine.storage.uid_parquet import LOST, naming_damage, open_parquet, read_batches
from engine.storage.uid_spool import Side, joined, open_spool, partitions

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BYTES_A_ROW = 9
"""The memory of a row besides its uid, as state, run and place of the uid."""
Keys = npt.NDArray[np.uint64]
"""Hashes of uids."""


class SnapshotRows(Protocol):
    """The rows of a snapshot by partition. Several threads may read."""

    @property
    def sides(self) -> Sequence[Side]:
        """What is divided together with other rows; none if the snapshot is read directly."""

    @property
    def rows_in_file(self) -> int:
        """The number of rows besides those of `sides`."""

    def bytes_in(self, partition: Partition) -> int:
        """Return about how many bytes the rows of a partition take, besides those of `sides`."""

    def rows(
        self, partition: Partition, divided: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch, Keys | None]:
        """Return the rows of a partition, and their hashes if they are known.

        `divided` is what the division of `sides` yielded. Raises `LedgerError` for a damaged file.
        """


@contextmanager
def open_rows(
    snapshot: Snapshot | None, folder: Path, options: ComputeOptions
) -> Iterator[SnapshotRows]:
    """Open a snapshot; without one, there are no rows.

    A snapshot that is not sorted, of an older version, is divided first, in `folder`. Raises
    `LedgerError` if it is damaged, the error of a stop, and as `open_spool` and `Spool.write`.
    """
    if snapshot is None:
        yield _NoRows()
        return
    with ExitStack() as files:
        if (found := _SortedRows.open(snapshot.path, files)) is not None:
            yield found
            return
        spool = files.enter_context(open_spool(folder, SNAPSHOT, options.settings))
        batches = read_batches(snapshot.path, SNAPSHOT.names)
        for rows in options.interruption.until_tripped(batches):
            spool.write(rows.cast(SNAPSHOT))
        spool.finish()
        yield _DividedRows([Side(spool, lambda rows: rows)])


class _NoRows:
    """The rows of no snapshot. Fulfils `SnapshotRows`."""

    sides: Sequence[Side] = ()
    rows_in_file = 0

    def bytes_in(self, partition: Partition) -> int:
        del partition
        return 0

    def rows(
        self, partition: Partition, divided: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch, Keys | None]:
        del partition, divided
        return joined(SNAPSHOT, []), None


class _DividedRows:
    """The rows of a snapshot that is not sorted, in a spool. Fulfils `SnapshotRows`."""

    rows_in_file = 0

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = sides

    def bytes_in(self, partition: Partition) -> int:
        del partition
        return 0

    def rows(
        self, partition: Partition, divided: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch, Keys | None]:
        del partition
        if divided is None:
            raise RuntimeError("the rows of a snapshot were not divided")
        return divided, None


class _SortedRows:
    """The rows of a sorted snapshot. Fulfils `SnapshotRows`."""

    sides: Sequence[Side] = ()

    def __init__(
        self, path: Path, files: ExitStack, file: "pq.ParquetFile", layout: Layout
    ) -> None:
        self._path = path
        self._files = files
        self._layout = layout
        self.rows_in_file = sum(layout.rows)
        self._idle: queue.SimpleQueue[pq.ParquetFile] = queue.SimpleQueue()
        """Open readers: each is used by one thread at a time."""
        self._idle.put(file)
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        self._sizes = [each.total_byte_size + each.num_rows * _BYTES_A_ROW for each in groups]

    @classmethod
    def open(cls, path: Path, files: ExitStack) -> "_SortedRows | None":
        """Open a snapshot until `files` is closed; None if it is not sorted."""
        with naming_damage(path):
            file = files.enter_context(open_parquet(path))
            layout = Layout.of(file)
        return None if layout is None else cls(path, files, file, layout)

    def bytes_in(self, partition: Partition) -> int:
        shares = self._layout.shares_of(partition)
        return int(sum(self._sizes[group] * share for group, share in shares))

    def rows(
        self, partition: Partition, divided: pa.RecordBatch | None
    ) -> tuple[pa.RecordBatch, Keys | None]:
        del divided
        try:
            file = self._idle.get_nowait()
        except queue.Empty:
            with naming_damage(self._path):
                file = self._files.enter_context(open_parquet(self._path))
        found = rows_of_partition(self._path, file, self._layout, partition)
        self._idle.put(file)
        return found


@dataclass(frozen=True, slots=True)
class Known:
    """What a snapshot knows of the uids of groups, of which its own uids are the first column."""

    first: npt.NDArray[np.int64]
    """The row of each uid, the first one of its group."""
    is_known: npt.NDArray[np.bool_]
    """Whether the snapshot has the uid."""
    state: npt.NDArray[np.uint8]
    """The uid's `UidState`; 0 if it is not known."""
    run: npt.NDArray[np.int32]
    """The run of that state; 0 if the uid is not known."""

    @classmethod
    def of(cls, rows: pa.RecordBatch, groups: UidGroups) -> Self:
        """Look up the uids of `groups`; raises `LedgerError` if `rows` have a uid twice."""
        first = groups.order[groups.starts]
        is_known = first < len(rows)
        if np.count_nonzero(is_known) != len(rows):
            raise _uid_twice()
        places = first[is_known]
        state = np.zeros(len(first), np.uint8)
        state[is_known] = rows["state"].to_numpy()[places]
        run = np.zeros(len(first), np.int32)
        run[is_known] = rows["run"].to_numpy()[places]
        return cls(first, is_known, state, run)


def in_hash_order(rows: pa.RecordBatch, keys: Keys | None) -> tuple[pa.RecordBatch, Keys]:
    """Return rows of a snapshot in the order of their hashes, and these.

    `keys` are the hashes of rows that are in order. Raises `LedgerError` for a uid twice.
    """
    if keys is None:
        keys = hashes(rows["uid"])
        order = stable_order(keys)
        rows, keys = rows.take(pa.array(order)), keys[order]
    if not (keys[1:] > keys[:-1]).all() and len(group_uids([rows["uid"]]).starts) < len(rows):
        raise _uid_twice()
    return rows, keys


def _uid_twice() -> LedgerError:
    return LedgerError("the last snapshot is corrupt: it contains a uid twice", hint=LOST)


NO_CHANGE = 255
Next = Callable[[Known, npt.NDArray[np.uint8]], tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]]
"""Returns each uid's next state, and its run; with the state 0, the uid is left out. It is given
the lowest state among the changes of each uid, `NO_CHANGE` where there are none."""
CHANGE = pa.schema([SNAPSHOT.field("uid"), SNAPSHOT.field("state")])


def lowest_states(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Reduce rows of the schema `CHANGE`: of a uid, the row with the lowest state stays."""
    groups = group_uids([rows["uid"]])
    states = _lowest(groups, states_of(rows))
    uids = groups.uids.take(pa.array(groups.order[groups.starts]))
    return pa.record_batch([uids, pa.array(states)], schema=CHANGE)


def states_of(rows: pa.RecordBatch) -> npt.NDArray[np.uint8]:
    """Return the states of rows of the schema `CHANGE`."""
    found: npt.NDArray[np.uint8] = rows["state"].to_numpy()
    return found


@dataclass(frozen=True, slots=True)
class Changes:
    """Uids whose state changes."""

    side: Side
    states: Callable[[pa.RecordBatch], npt.NDArray[np.uint8]] = states_of
    """Returns the state of each row; by default, the rows have the schema `CHANGE`."""


def rewrite(
    changes: Changes, base: Snapshot | None, next_of: Next, target: Path, options: ComputeOptions
) -> Snapshot:
    """Write the uids of `base` and of `changes` to `target`, sorted, in their next state.

    Raises `LedgerError` for a damaged snapshot,
    `IncompleteError` if memory is too small, the error of a stop, and as `new_file`.
    """
    options = options.affordable()
    threads = threads_for(options.settings)
    limit = partition_bytes(options.settings, threads)
    where = changes.side.spool.where
    with within_memory(options.settings), open_rows(base, where, options) as known:
        sides = [changes.side, *known.sides]
        spools = [side.spool for side in sides]
        rows = sum(each.rows_in(WHOLE) for each in spools) + known.rows_in_file
        size = sum(each.bytes_in(WHOLE) for each in spools) + known.bytes_in(WHOLE)
        tasks = (
            partial(_rewritten, changes.states, known, next_of, partition, parts)
            for partition, parts in partitions(sides, limit, options, known.bytes_in)
        )
        with in_order(tasks, threads) as written:
            return write_sorted(target, written, bits_for(rows, size))


def rewrite_each(base: Snapshot, next_of: Next, target: Path, options: ComputeOptions) -> Snapshot:
    """Write each uid of `base` to `target`, sorted, in its next state; raises as `rewrite`."""
    with open_spool(target.parent, CHANGE, options.settings) as nothing:
        nothing.finish()
        return rewrite(Changes(Side(nothing, lowest_states)), base, next_of, target, options)


def is_sorted(snapshot: Snapshot) -> bool:
    """Return whether a snapshot is sorted; older versions sorted none. Raises `LedgerError`."""
    with naming_damage(snapshot.path), open_parquet(snapshot.path) as file:
        return Layout.of(file) is not None


def sort_rows(base: Snapshot, target: Path, options: ComputeOptions) -> Snapshot:
    """Write the rows of `base` to `target`, sorted; raises as `rewrite`."""
    return rewrite_each(base, lambda known, _: (known.state, known.run), target, options)


def _rewritten(
    states: Callable[[pa.RecordBatch], npt.NDArray[np.uint8]],
    known: SnapshotRows,
    next_of: Next,
    partition: Partition,
    sides: Sequence[pa.RecordBatch],
) -> tuple[pa.RecordBatch, Keys]:
    """Return the rows of one partition, and their hashes."""
    changes, *divided = sides
    base, keys = known.rows(partition, divided[0] if divided else None)
    groups = group_uids([base["uid"], changes["uid"]], partition.bits, keys)
    was = Known.of(base, groups)
    changed = np.full(len(groups.order), NO_CHANGE, np.uint8)
    changed[len(base) :] = states(changes)
    state, run = next_of(was, _lowest(groups, changed))
    kept = np.flatnonzero(state)
    places = was.first[kept]
    uids = groups.uids.take(pa.array(places))
    columns = [uids, pa.array(state[kept]), pa.array(run[kept])]
    return pa.record_batch(columns, schema=SNAPSHOT), groups.hashes[places]


def _lowest(groups: UidGroups, states: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the lowest state of the rows of each group."""
    if not len(states):
        return states
    return np.minimum.reduceat(states[groups.order], groups.starts)
