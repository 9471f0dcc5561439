"""The rows of a snapshot by partition."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from engine.snapshot.file_format import SNAPSHOT
from engine.snapshot.records import Snapshot
from engine.storage.computation import ComputeOptions
from engine.storage.uid_hash import Partition
from engine.storage.uid_parquet import read_batches
from engine.storage.uid_spool import Side, joined, open_spool


class SnapshotRows(Protocol):
    """The rows of a snapshot by partition."""

    @property
    def sides(self) -> Sequence[Side]:
        """What is divided together with other rows; none if the snapshot is read directly."""

    def bytes_in(self, partition: Partition) -> int:
        """Return about how many bytes the rows of a partition take, besides those of `sides`."""

    def rows(self, partition: Partition, divided: pa.RecordBatch | None) -> pa.RecordBatch:
        """Return the rows of a partition; `divided` is what the division of `sides` yielded."""


@contextmanager
def open_rows(
    snapshot: Snapshot | None, folder: Path, options: ComputeOptions
) -> Iterator[SnapshotRows]:
    """Open a snapshot; without one, there are no rows.

    A snapshot that is not sorted is divided first, in `folder`. Raises `LedgerError` if it is
    damaged, the error of a stop, and as `open_spool` and `Spool.write`.
    """
    if snapshot is None:
        yield _NoRows()
        return
    with open_spool(folder, SNAPSHOT, options.settings) as spool:
        batches = read_batches(snapshot.path, SNAPSHOT.names)
        for rows in options.interruption.until_tripped(batches):
            spool.write(rows.cast(SNAPSHOT))
        spool.finish()
        yield _DividedRows([Side(spool, lambda rows: rows)])


class _NoRows:
    """The rows of no snapshot. Fulfils `SnapshotRows`."""

    sides: Sequence[Side] = ()

    def bytes_in(self, partition: Partition) -> int:
        del partition
        return 0

    def rows(self, partition: Partition, divided: pa.RecordBatch | None) -> pa.RecordBatch:
        del partition, divided
        return joined(SNAPSHOT, [])


class _DividedRows:
    """The rows of a snapshot that is not sorted, in a spool. Fulfils `SnapshotRows`."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = sides

    def bytes_in(self, partition: Partition) -> int:
        del partition
        return 0

    def rows(self, partition: Partition, divided: pa.RecordBatch | None) -> pa.RecordBatch:
        del partition
        if divided is None:
            raise RuntimeError("the rows of a snapshot were not divided")
        return divided
