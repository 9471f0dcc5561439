"""The places of a plan's uids in the export: their files and records.

A plan's adds are kept with their rows: positions among all uids of the export, duplicates included.
A small file beside them maps ranges of these rows to places. It is read only for uids that are
rejected. Removes are from the snapshot, and have no place in the export. Plans of version 0.1.0
keep no rows.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.model.cohort import Operation
from engine.source.block import Block
from engine.storage.paths import operation_path, places_path
from engine.storage.uid_parquet import UidWriter, is_damage, open_parquet, open_writer, schema_of

PLACES = schema_of(row=pa.int64(), file=pa.string(), record=pa.int64())
"""Uids from this `row` up to that of the next range are in consecutive records of `file`; the first
of them is in `record`. Ascending."""


class PlaceWriter:
    """Writes the places of blocks' uids, range by range."""

    def __init__(self, writer: UidWriter) -> None:
        self._writer = writer
        self._rows = 0
        self._next: tuple[str, int] | None = None
        """File and record of the next uid, if it belongs to the last range."""

    def add_records(self, file: str) -> None:
        """Write that each row is the record of its number in `file`, the only one."""
        first = {"row": [0], "file": [file], "record": [1]}
        self._writer.write(pa.RecordBatch.from_pydict(first, PLACES))

    def add(self, block: Block) -> None:
        """Write the ranges of the next block of the export."""
        runs = block.skipped
        counts = np.array([run.count for run in runs], np.int64)
        records = np.array([run.record for run in runs], np.int64)
        # The number of the block's uids before each skipped run: its offset less earlier runs.
        before = records - block.first_record - (np.cumsum(counts) - counts)
        starts = np.concatenate(([0], before))
        firsts = np.concatenate(([block.first_record], records + counts))
        # If no uid is between two runs, only the last one starts a range; a run after the last uid
        # does not.
        is_range = np.append(starts[:-1] < starts[1:], starts[-1] < len(block.uids))
        starts, firsts = starts[is_range], firsts[is_range]
        if not len(starts):
            return
        after_last = (block.file, int(firsts[-1]) + len(block.uids) - int(starts[-1]))
        if self._next == (block.file, firsts[0]):
            starts, firsts = starts[1:], firsts[1:]
        files = pa.array([block.file], pa.string()).take(pa.array(np.zeros(len(starts), np.int8)))
        rows = pa.array(starts + self._rows)
        self._writer.write(pa.record_batch([rows, files, pa.array(firsts)], schema=PLACES))
        self._rows += len(block.uids)
        self._next = after_last


@contextmanager
def open_places(folder: Path) -> Iterator[PlaceWriter]:
    """Open the places of a plan for writing, in its folder; raises as `open_writer`."""
    with open_writer(places_path(folder), PLACES) as writer:
        yield PlaceWriter(writer)


class ExportPlaces:
    """Finds the places of one plan's adds in the export."""

    def __init__(self, folder: Path) -> None:
        self._adds = _RowGroups(operation_path(folder, Operation.ADD), ["row"])
        self._places = _RowGroups(places_path(folder), PLACES.names)

    def find(self, position: int) -> tuple[str, int] | None:
        """Return file and record of the first row of the add at `position`.

        None if that is unknown: for a plan of version 0.1.0, or if a file is lost or damaged.
        """
        try:
            row = self._row(position)
            return None if row is None else self._place(row)
        except Exception as error:
            if not is_damage(error):
                raise
            return None

    def _row(self, position: int) -> int | None:
        group = bisect_right(self._adds.starts, position) - 1
        rows = self._adds.read(group)
        if "row" not in rows.column_names:
            return None
        return int(rows["row"][position - self._adds.starts[group]].as_py())

    def _place(self, row: int) -> tuple[str, int]:
        groups = range(len(self._places.starts))
        group = bisect_right(
            groups, row, key=lambda each: self._places.read(each)["row"][0].as_py()
        )
        ranges = self._places.read(group - 1)
        index = int(np.searchsorted(ranges["row"].to_numpy(), row, side="right")) - 1
        first, file, record = (ranges[name][index].as_py() for name in PLACES.names)
        return file, record + row - first


class _RowGroups:
    """A Parquet file that is read one row group at a time; the last one read is kept."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._wanted = list(columns)
        self._last: tuple[int, pa.Table] | None = None

    @cached_property
    def starts(self) -> Sequence[int]:
        """The number of the first row of each group."""
        with open_parquet(self._path) as file:
            sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        return [sum(sizes[:n]) for n in range(len(sizes))]

    def read(self, group: int) -> pa.Table:
        """Return the rows of a group."""
        last = self._last  # Another thread may read another group meanwhile.
        if last is None or last[0] != group:
            with open_parquet(self._path) as file:
                last = self._last = group, file.read_row_group(group, columns=self._wanted)
        return last[1]
