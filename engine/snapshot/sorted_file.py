"""Snapshots whose rows are sorted by hash and uid, so that a part of them can be read alone.

A row group holds rows of one partition of the file only. The file's metadata tells the version of
the hash, the bits of the file's partitions, and the partition of each row group.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.snapshot.records import UNKNOWN, Census, Snapshot, UidState
from engine.storage.files import digest_of
from engine.storage.uid_hash import HASH_BITS, HASH_VERSION, Partition, hashes
from engine.storage.uid_parquet import UidWriter, metadata_of, open_writer, schema_of
from engine.storage.uid_spool import joined

SNAPSHOT = schema_of(uid=pa.binary(), state=pa.uint8(), run=pa.int32())
"""`state` is a `UidState`, `run` the ledger's number of the run in which it last changed."""

_HASH_KEY = b"cohortsync.hash"
_PARTITIONS_KEY = b"cohortsync.partitions"
_ROWS_A_PARTITION = 200_000
"""So many rows are read at about the speed of more, and `why` reads no more of them."""
_ROWS_A_WRITE = 65_536


class StateCounts:
    """Counts the uids of a snapshot by state."""

    def __init__(self) -> None:
        self._counts = np.zeros(max(UidState) + 1, np.int64)

    def add(self, states: pa.UInt8Array) -> None:
        """Count some uids."""
        self._counts += np.bincount(states.to_numpy(), minlength=len(self._counts))

    @property
    def census(self) -> Census:
        """The counts so far."""
        unknown = sum(int(self._counts[state]) for state in UNKNOWN)
        return Census(int(self._counts[UidState.IN]), unknown, int(self._counts[UidState.OUT]))


class SortedWriter:
    """Writes the rows of a snapshot in the order of their hashes and uids."""

    def __init__(self, writer: UidWriter, bits: int) -> None:
        self._writer = writer
        self._bits = bits
        self._partition = 0
        self._partitions: list[int] = []
        """The partition of each row group that was written."""
        self._counts = StateCounts()

    def write(self, rows: pa.RecordBatch, keys: npt.NDArray[np.uint64]) -> None:
        """Write rows of the schema `SNAPSHOT` with their hashes; they follow those before."""
        self._counts.add(rows["state"])
        numbers = _partition_numbers(keys, self._bits)
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
        for start, end in pairwise(starts):
            if start == end:
                continue
            if numbers[start] != self._partition:
                self._end_partition()
                self._partition = int(numbers[start])
            for first in range(start, end, _ROWS_A_WRITE):
                self._writer.write(rows.slice(first, min(_ROWS_A_WRITE, end - first)))

    def finish(self) -> Census:
        """Write the rows that are left; return the number of rows by state."""
        self._end_partition()
        self._writer.metadata[_HASH_KEY] = str(HASH_VERSION).encode()
        layout = {"bits": self._bits, "partitions": self._partitions}
        self._writer.metadata[_PARTITIONS_KEY] = json.dumps(layout).encode()
        return self._counts.census

    def _end_partition(self) -> None:
        self._writer.flush()
        more = self._writer.groups - len(self._partitions)
        self._partitions += [self._partition] * more


def write_sorted(
    path: Path, rows: Iterable[tuple[pa.RecordBatch, npt.NDArray[np.uint64]]], most: int
) -> Snapshot:
    """Write a snapshot of at most about `most` rows, each with its hash; return it.

    Raises as `new_file` does.
    """
    bits = max(0, (most // _ROWS_A_PARTITION).bit_length())
    with open_writer(path, SNAPSHOT, compression="zstd") as writer:
        ordered = SortedWriter(writer, bits)
        for batch, keys in rows:
            ordered.write(batch, keys)
        census = ordered.finish()
    return Snapshot(path, census, digest_of(path))


@dataclass(frozen=True, slots=True)
class Layout:
    """Which row groups of a sorted snapshot hold which partition."""

    bits: int
    partitions: npt.NDArray[np.uint64]
    """The partition of each row group, ascending."""

    @classmethod
    def of(cls, file: pq.ParquetFile) -> Self | None:
        """Return the layout of a file; None if it is not sorted, or by another hash.

        Raises `ValueError` for metadata that does not fit the file.
        """
        return cls.read(metadata_of(file), file.num_row_groups)

    @classmethod
    def read(cls, metadata: Mapping[bytes, bytes], groups: int) -> Self | None:
        """Return the layout that a file's metadata describe; see `of`."""
        if metadata.get(_HASH_KEY) != str(HASH_VERSION).encode():
            return None
        try:
            layout = json.loads(metadata[_PARTITIONS_KEY])
            found = cls(int(layout["bits"]), np.array(layout["partitions"], np.uint64))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError("its metadata is damaged") from error
        is_ordered = bool((found.partitions[1:] >= found.partitions[:-1]).all())
        if len(found.partitions) != groups or not is_ordered or not 0 <= found.bits < HASH_BITS:
            raise ValueError("its metadata does not fit its rows")
        return found

    def groups_of(self, partition: Partition) -> range:
        """Return the row groups that hold rows of a partition, perhaps among others."""
        finer = partition.bits - self.bits
        first = partition.index >> finer if finer > 0 else partition.index << -finer
        last = first if finer > 0 else ((partition.index + 1) << -finer) - 1
        start = int(np.searchsorted(self.partitions, np.uint64(first), "left"))
        return range(start, int(np.searchsorted(self.partitions, np.uint64(last), "right")))


def rows_of_partition(
    file: pq.ParquetFile, layout: Layout, partition: Partition
) -> tuple[pa.RecordBatch, npt.NDArray[np.uint64]]:
    """Return the rows of a partition of an open, sorted snapshot, in their order, and their hashes.

    Raises `ValueError` if the rows are not where the metadata says;
    PyArrow may raise any error for a damaged file.
    """
    groups = layout.groups_of(partition)
    if not groups:
        return joined(SNAPSHOT, []), np.empty(0, np.uint64)
    table = file.read_row_groups(list(groups), columns=SNAPSHOT.names, use_threads=False)
    [rows] = table.combine_chunks().to_batches()
    keys = hashes(rows["uid"])
    if not bool((keys[1:] >= keys[:-1]).all()):
        raise ValueError("its rows are not sorted")
    finer = max(0, partition.bits - layout.bits)
    whole = Partition(partition.bits - finer, partition.index >> finer)
    if not whole.first <= int(keys[0]) <= int(keys[-1]) <= whole.last:
        raise ValueError("its rows are not where its metadata says")
    start = int(np.searchsorted(keys, np.uint64(partition.first), "left"))
    end = int(np.searchsorted(keys, np.uint64(partition.last), "right"))
    return rows.slice(start, end - start).cast(SNAPSHOT), keys[start:end]


def _partition_numbers(keys: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    """Return the partition of each hash."""
    if not bits:
        return np.zeros(len(keys), np.uint64)
    return keys >> np.uint64(HASH_BITS - bits)
