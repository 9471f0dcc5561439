"""Compares the export with the acknowledged uids, out of core, partition by partition.

Uids are compared as bytes. Each partition of the export, of the exclusion list and of the snapshot
is read once, into memory; only the differences are written. Partitions are as small as the memory
limit asks, and are written in their order, so that the same inputs give the same files.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.model.cohort import Operation
from engine.planning.conditions import NO_CONDITIONS, Conditions
from engine.planning.differences import Comparer, Differences, first_rows, last_rows
from engine.planning.operation_file import OperationFile
from engine.planning.resending import ResendSelection
from engine.snapshot.partitions import SnapshotRows, open_rows
from engine.snapshot.records import Comparison, Member, PlannedOperation, Snapshot, Staged, UidState
from engine.storage.capacity import partition_bytes, threads_for
from engine.storage.computation import ComputeOptions, in_order, within_memory
from engine.storage.paths import operation_path
from engine.storage.uid_groups import distinct
from engine.storage.uid_hash import Partition
from engine.storage.uid_parquet import open_writer, schema_of, write_batches
from engine.storage.uid_spool import Side, Spool, partitions

OPERATION = schema_of(uid=pa.binary(), was=pa.uint8(), was_run=pa.int32())
"""`was` is the uid's `UidState` in the snapshot, 0 if it had none; `was_run` that state's run."""
ADDS = OPERATION.append(pa.field("row", pa.int64(), nullable=False))
"""`row` is the uid's first row in the staged export, from 0, from which its place is found."""


def compare(
    staged: Staged,
    base: Snapshot | None,
    folder: Path,
    options: ComputeOptions,
    conditions: Conditions = NO_CONDITIONS,
) -> Comparison:
    """Write the operations `adds.parquet`, `removes.parquet` and `resends.parquet` into `folder`.

    `staged` has the rows that say add, if the export is a list of changes. The schema of the files
    is `OPERATION`, that of the adds `ADDS`; uids that are known to be rejected follow the others.
    Raises `LedgerError` for a damaged snapshot, `IncompleteError` if memory is too small, the error
    of a stop, and as `Spool.write`.
    """
    options = options.affordable()
    totals = _Totals()
    with within_memory(options.settings), ExitStack() as files:
        to_add = OperationFile(operation_path(folder, Operation.ADD), ADDS, files)
        to_remove = OperationFile(operation_path(folder, Operation.REMOVE), OPERATION, files)
        resend = conditions.resend if base is not None else None
        selection = ResendSelection(resend) if resend else None
        with _differences(staged, base, options, conditions) as differences:
            for found in differences:
                totals.add(found)
                to_add.write(found.adds)
                to_remove.write(found.removes)
                if selection is not None and found.resendable is not None:
                    selection.add(found.resendable)
        adds, removes = to_add.finish(), to_remove.finish()
        resent, through = _write_resends(folder, selection)
    listed = staged.uids - totals.excluded
    changed = adds.planned + adds.known
    lost = (base.census.members if base else 0) - totals.unchanged
    if conditions.removals is not None:
        listed += conditions.removals.uids
        changed += removes.planned + removes.known
        lost = totals.lost  # Members without a row are not counted.
    duplicate = listed - changed - totals.unchanged
    matched = listed - totals.differing
    if not 0 <= matched - totals.unchanged <= duplicate or lost != totals.lost:
        raise RuntimeError(
            f"the comparison does not add up: {listed} rows, {totals}, {duplicate} duplicate"
        )
    return Comparison(adds, removes, totals.unchanged, duplicate, resent, through, totals.excluded)


@dataclass(slots=True)
class _Totals:
    """Sums over the partitions."""

    differing: int = 0
    """The export's rows whose uids are added, or removed by a list of changes."""
    excluded: int = 0
    """The export's rows whose uids are excluded."""
    unchanged: int = 0
    lost: int = 0
    """Members that are removed."""

    def add(self, found: Differences) -> None:
        """Add one partition."""
        self.differing += found.differing_rows
        self.excluded += found.excluded_rows
        self.unchanged += found.unchanged
        was = found.removes["was"].to_numpy()
        self.lost += int(np.count_nonzero(was == UidState.IN))


@contextmanager
def _differences(
    staged: Staged, base: Snapshot | None, options: ComputeOptions, conditions: Conditions
) -> Iterator[Iterator[Differences]]:
    """Yield the differences of each partition, in order, computed by several threads."""
    spool = _spool_of(staged)
    sides = [Side(spool, first_rows)]
    if conditions.removals is not None:
        sides = [Side(each, last_rows) for each in (spool, _spool_of(conditions.removals))]
    if conditions.excluded is not None:
        sides.append(Side(_spool_of(conditions.excluded), distinct))
    comparer = Comparer(conditions)
    threads = threads_for(options.settings)
    limit = partition_bytes(options.settings, threads)
    with open_rows(base, spool.where, options) as known:
        tasks = (
            partial(_compare_rows, comparer, known, partition, rows)
            for partition, rows in partitions(
                [*sides, *known.sides], limit, options, known.bytes_in
            )
        )
        with in_order(tasks, threads) as differences:
            yield differences


def _spool_of(staged: Staged) -> Spool:
    if not isinstance(staged.spool, Spool):
        raise TypeError("rows that are compared on this machine are in a spool")
    return staged.spool


def _compare_rows(
    comparer: Comparer, known: SnapshotRows, partition: Partition, rows: list[pa.RecordBatch]
) -> Differences:
    """Compare one partition; `rows` are those of the sides, in their order."""
    export, *others = rows
    base, hashes = known.rows(partition, others.pop() if known.sides else None)
    if comparer.lists_changes:
        return comparer.compare_changes(partition, base, [export, *others], hashes)
    return comparer.compare(partition, base, export, others[0] if others else None, hashes)


def _write_resends(
    folder: Path, selection: ResendSelection | None
) -> tuple[PlannedOperation, Member | None]:
    """Write the uids to be resent; return them, and the last member of this round."""
    path = operation_path(folder, Operation.RESEND)
    if selection is None:
        write_batches(path, OPERATION, [])
        return PlannedOperation(path=path), None
    rows, through = selection.finish()
    with open_writer(path, OPERATION) as writer:
        for batch in rows.to_batches():
            was = pa.array(np.full(len(batch), UidState.IN, np.uint8))
            columns = [batch["uid"], was, batch["run"]]
            writer.write(pa.record_batch(columns, schema=OPERATION))
    return PlannedOperation(len(rows), path=path), through
