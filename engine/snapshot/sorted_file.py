"""Snapshots whose rows are sorted by hash and uid, so that a part of them can be read alone.

The file is divided into partitions by the highest bits of the hash, and a row group holds rows of
one of them only. All rows with one hash are in one row group. The file's metadata tells the version
of the hash, and for each row group its lowest possible hash, its number of rows and a checksum. The
hashes themselves are not stored.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.snapshot.records import UNKNOWN, Census, Snapshot, UidState
from engine.storage.files import digest_of
from engine.storage.uid_hash import HASH_BITS, HASH_VERSION, Partition, hashes
from engine.storage.uid_parquet import (
    UidWriter,
    metadata_of,
    naming_damage,
    open_writer,
    schema_of,
)
from engine.storage.uid_spool import joined

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SNAPSHOT = schema_of(uid=pa.binary(), state=pa.uint8(), run=pa.int32())
"""`state` is a `UidState`, `run` the ledger's number of the run in which it last changed."""

_HASH_KEY = b"cohortsync.hash"
_GROUPS_KEY = b"cohortsync.groups"
_ROWS_A_PARTITION, _BYTES_A_PARTITION = 100_000, 4_000_000
"""So many rows are read at about the speed of more, and `why` reads no more of them."""
_MOST_BITS = 20
_ROWS_A_WRITE = 65_536


class StateCounts:
    """Counts the uids of a snapshot by state."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(UidState, 0)

    def add(self, states: pa.UInt8Array) -> None:
        """Count some uids."""
        values = states.to_numpy()
        for state in UidState:
            self._counts[state] += int(np.count_nonzero(values == state))

    @property
    def census(self) -> Census:
        """The counts so far."""
        unknown = sum(self._counts[state] for state in UNKNOWN)
        return Census(self._counts[UidState.IN], unknown, self._counts[UidState.OUT])


class SortedWriter:
    """Writes the rows of a snapshot in the order of their hashes and uids."""

    def __init__(self, writer: UidWriter, bits: int) -> None:
        self._writer = writer
        self._bits = bits
        self._last = -1
        """The partition of the last row."""
        self._starts: list[int] = []
        """The lowest possible hash of each row group."""
        self._rows: list[int] = []
        self._checksums: list[int] = []
        self._counts = StateCounts()

    def write(self, rows: pa.RecordBatch, keys: npt.NDArray[np.uint64]) -> None:
        """Write rows of the schema `SNAPSHOT` with their hashes; they follow those before.

        All rows with one hash are written by one call.
        """
        self._counts.add(rows["state"])
        start = 0
        while start < len(rows):
            partition = Partition.of(int(keys[start]), self._bits)
            if partition.index != self._last:
                self._writer.flush()
                self._last = partition.index
            end = int(np.searchsorted(keys, np.uint64(partition.last), "right"))
            for here, there in pairwise(_parts(keys, start, end)):
                self._write_part(rows.slice(here, there - here), int(keys[here]), partition)
            start = end

    def _write_part(self, rows: pa.RecordBatch, first_key: int, partition: Partition) -> None:
        """Write rows of one partition, which may begin a row group."""
        if self._writer.is_empty:
            is_first = not self._starts or self._starts[-1] < partition.first
            self._starts.append(partition.first if is_first else first_key)
            self._rows.append(0)
            self._checksums.append(0)
        self._rows[-1] += len(rows)
        self._checksums[-1] = _checksum(rows, self._checksums[-1])
        self._writer.write(rows)

    def finish(self) -> Census:
        """Write the rows that are left; return the number of rows by state."""
        self._writer.flush()
        self._writer.metadata[_HASH_KEY] = str(HASH_VERSION).encode()
        starts = np.array(self._starts, np.uint64)
        self._writer.metadata[_GROUPS_KEY] = Layout(starts, self._rows, self._checksums).text
        return self._counts.census


def _checksum(rows: pa.RecordBatch, before: int = 0) -> int:
    """Return a checksum of the states and runs of rows that follow those of the checksum `before`.

    The uids need none: their hashes have to be in order, and in the range of their row group.
    """
    packed = rows["run"].to_numpy().astype(np.int64) << 8 | rows["state"].to_numpy()
    return zlib.crc32(packed.data, before)


def _parts(keys: npt.NDArray[np.uint64], start: int, end: int) -> list[int]:
    """Return where parts of some rows begin that are written together, and `end`.

    Rows with one hash are in one part.
    """
    places = np.arange(start + _ROWS_A_WRITE, end, _ROWS_A_WRITE)
    cuts = np.unique(np.searchsorted(keys, keys[places], "left"))
    return [start, *cuts[cuts > start].tolist(), end]


def bits_for(rows: int, size: int) -> int:
    """Return the bits of the partitions of a file of so many rows, and bytes in memory."""
    partitions = max(rows // _ROWS_A_PARTITION, size // _BYTES_A_PARTITION)
    return min(partitions.bit_length(), _MOST_BITS)


def write_sorted(
    path: Path, rows: Iterable[tuple[pa.RecordBatch, npt.NDArray[np.uint64]]], bits: int = 0
) -> Snapshot:
    """Write the rows of a snapshot, each with its hash, in partitions of so many `bits`.

    Raises as `new_file` does.
    """
    with open_writer(path, SNAPSHOT, compression="zstd") as writer:
        ordered = SortedWriter(writer, bits)
        for batch, keys in rows:
            ordered.write(batch, keys)
        census = ordered.finish()
    return Snapshot(path, census, digest_of(path))


@dataclass(frozen=True, slots=True)
class Layout:
    """Which row groups of a sorted snapshot hold which hashes."""

    starts: npt.NDArray[np.uint64]
    """The lowest hash that may be in each row group, ascending; the others are in earlier ones."""
    rows: list[int]
    """The number of rows of each row group."""
    checksums: list[int]
    """The checksum of the states and runs of each row group."""

    @classmethod
    def of(cls, file: "pq.ParquetFile") -> Self | None:
        """Return the layout of a file; None if it is not sorted, or by another hash.

        Raises `ValueError` for metadata that is damaged, or does not fit the file.
        """
        metadata = metadata_of(file)
        if metadata.get(_HASH_KEY) != str(HASH_VERSION).encode():
            return None
        try:
            content = json.loads(metadata[_GROUPS_KEY])
            starts = np.array(content["starts"], np.uint64)
            found = cls(starts, content["rows"], content["checksums"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError("its metadata is damaged") from error
        if found.text != metadata[_GROUPS_KEY]:
            raise ValueError("its metadata is damaged")
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        if [each.num_rows for each in groups] != found.rows:
            raise ValueError("its row groups are not those that were written")
        return found

    @property
    def text(self) -> bytes:
        """The layout as stored in a file, with a checksum: single row groups depend on it."""
        content = {
            "starts": self.starts.tolist(),
            "rows": self.rows,
            "checksums": self.checksums,
        }
        return json.dumps(content | {"crc32": zlib.crc32(repr(content).encode())}).encode()

    def groups_of(self, partition: Partition) -> range:
        """Return the row groups that hold the rows of a partition, perhaps among others."""
        before = int(np.searchsorted(self.starts, np.uint64(partition.first), "right")) - 1
        end = int(np.searchsorted(self.starts, np.uint64(partition.last), "right"))
        return range(max(before, 0), end)

    def shares_of(self, partition: Partition) -> Iterator[tuple[int, float]]:
        """Yield these row groups, each with about the share of its rows in the partition."""
        ends = [*self.starts[1:].tolist(), 1 << HASH_BITS]
        for group in self.groups_of(partition):
            start, end = int(self.starts[group]), ends[group]
            common = min(end, partition.last + 1) - max(start, partition.first)
            yield group, common / (end - start)

    def check(self, rows: pa.RecordBatch, keys: npt.NDArray[np.uint64], groups: range) -> None:
        """Raise `ValueError` unless rows with the hashes `keys` are those of `groups`, sorted."""
        ends = np.cumsum([self.rows[group] for group in groups])
        parts = map(rows.slice, [0, *ends[:-1]], [self.rows[group] for group in groups])
        kept = [self.checksums[group] for group in groups]
        if len(rows) != ends[-1] or [*map(_checksum, parts)] != kept:
            raise ValueError("its rows are not those that were written")
        is_above = keys[0] >= self.starts[groups.start]
        is_below = groups.stop == len(self.starts) or keys[-1] < self.starts[groups.stop]
        if not (is_above and is_below and (keys[1:] >= keys[:-1]).all()):
            raise ValueError("its rows are not in the order of its metadata")


def rows_of_partition(
    path: Path, file: "pq.ParquetFile", layout: Layout, partition: Partition
) -> tuple[pa.RecordBatch, npt.NDArray[np.uint64]]:
    """Return the rows of a partition of a sorted snapshot, in their order, and their hashes.

    `file` is the open file at `path`. Raises `LedgerError` if it is damaged.
    """
    groups = layout.groups_of(partition)
    if not groups:
        return joined(SNAPSHOT, []), np.empty(0, np.uint64)
    with naming_damage(path):
        table = file.read_row_groups(list(groups), columns=SNAPSHOT.names, use_threads=False)
        rows = joined(SNAPSHOT, table.combine_chunks().cast(SNAPSHOT).to_batches())
        keys = hashes(rows["uid"])
        layout.check(rows, keys, groups)
    start = int(np.searchsorted(keys, np.uint64(partition.first), "left"))
    end = int(np.searchsorted(keys, np.uint64(partition.last), "right"))
    return rows.slice(start, end - start), keys[start:end]
