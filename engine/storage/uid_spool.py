"""Divides rows of uids into partitions by the hash of the uid, out of core.

The rows are written once, in any order, to a temporary file that has no name: it disappears with
the process, however that ends. Then each partition is read on its own. How finely the uids are
divided follows from the counts, so that any number of rows is processed within a limit of memory.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError
from engine.storage.arrow import buffers
from engine.storage.capacity import MEGABYTE, affordable, threads_for
from engine.storage.computation import ComputeOptions
from engine.storage.files import is_full, unwritable
from engine.storage.settings import PlanningSettings
from engine.storage.uid_hash import HASH_BITS, WHOLE, Partition, hashes

_BITS = 10
"""The most bits of the hash by which a spool divides its uids."""
_MOST_BUFFERED, _LEAST_BUFFERED = 32 * MEGABYTE, 2 * MEGABYTE
"""Bounds of the rows that are written together: a partition takes one read of each such part."""
_FAST = 16 * MEGABYTE
"""Rows of up to this size are processed faster than more: they stay in the processor's cache. With
fewer, more time is spent on reading small parts of the file."""


@dataclass(frozen=True, slots=True)
class _Extent:
    """Rows that were written together: sorted by partition, each buffer at one place."""

    row_ends: npt.NDArray[np.int32]
    """0, and where each partition ends."""
    byte_ends: npt.NDArray[np.int32]
    """The same of the uids' bytes."""
    places: list[int]
    """Where in the file the uids' offsets, their bytes, and the other columns begin."""


class Spool:
    """Rows of uids that are written once, and then read by partition.

    The first column is `uid`, binary without nulls; the others are numbers of whole bytes. Rows
    with equal uids stay in the order in which they were written. Several threads may read.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - only `open_spool` makes one
        self,
        file: FileIO,
        worker: Executor | None,
        where: Path,
        schema: pa.Schema,
        buffered: int,
        base: Partition,
    ) -> None:
        self.base = base
        """The partition that all uids belong to."""
        self.where = where
        """The folder of the file."""
        self.schema = schema
        self._kinds = [np.dtype(each.type.to_pandas_dtype()) for each in list(schema)[1:]]
        self._file = file
        self._worker = worker
        """Divides rows and writes them; None: the thread that adds them does."""
        self._dividing: Future[None] | None = None
        self._size = 0
        self._most = buffered
        """The bytes of rows that are kept in memory before they are written."""
        self._buffered: list[pa.RecordBatch] = []
        self._bytes_buffered = 0
        self._extents: list[_Extent] = []
        self._kept: pa.RecordBatch | None = None
        """The rows of the only extent, if they need no file."""
        self._bits = min(_BITS, HASH_BITS - base.bits)
        self._rows = np.zeros(1 << self._bits, np.int64)
        self._bytes = np.zeros(1 << self._bits, np.int64)

    @property
    def finest(self) -> int:
        """The most bits of a partition that can be read."""
        return self.base.bits + self._bits

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows; raises `StateFullError` or `LedgerError` if earlier ones can't be written."""
        if not len(rows):
            return
        self._buffered.append(rows)
        self._bytes_buffered += rows.nbytes
        if self._bytes_buffered < self._most:
            return
        self._await_worker()
        buffered, self._buffered, self._bytes_buffered = self._buffered, [], 0
        if self._worker is None:
            self._store(buffered)
        else:
            self._dividing = self._worker.submit(self._store, buffered)

    def finish(self) -> None:
        """End the writing; raises as `write`. Only now the rows can be read."""
        self._await_worker()
        if not self._extents:
            self._kept = self._divided(self._buffered)
        elif self._buffered:
            self._store(self._buffered)
        self._buffered = []

    def _await_worker(self) -> None:
        if self._dividing is not None:
            self._dividing.result()

    def rows_in(self, partition: Partition) -> int:
        """Return the number of rows of a partition."""
        return int(self._rows[self._span(partition)].sum())

    def bytes_in(self, partition: Partition) -> int:
        """Return the number of bytes that the rows of a partition take in memory."""
        return int(self._bytes[self._span(partition)].sum())

    def rows(self, partition: Partition) -> pa.RecordBatch:
        """Return the rows of a partition, which has to fit into memory."""
        return self._read(partition, self._extents)

    def batches(self, partition: Partition) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a partition in parts, each of at most what is buffered."""
        together: list[_Extent] = []
        size = 0
        span = self._span(partition)
        a_row = _bytes_a_row(self.schema)
        for extent in self._extents:
            more = _length(extent.byte_ends, span) + _length(extent.row_ends, span) * a_row
            if together and size + more > self._most:
                yield self._read(partition, together)
                together, size = [], 0
            together.append(extent)
            size += more
        if size:
            yield self._read(partition, together)

    def _span(self, partition: Partition) -> slice:
        """Return which of the finest partitions are in this one."""
        finer = self.finest - partition.bits
        first = (partition.index << finer) - (self.base.index << self._bits)
        return slice(first, first + (1 << finer))

    def _divided(self, buffered: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
        """Return rows by partition, as a further extent; count them."""
        rows = joined(self.schema, buffered)
        # The shifts leave the bits that follow those of the base; numpy sorts them in linear time.
        found = hashes(rows["uid"]) << np.uint64(self.base.bits)
        numbers = (found >> np.uint64(HASH_BITS - self._bits)).astype(np.uint16)
        order = pa.array(np.argsort(numbers, kind="stable"))
        columns = [column.take(order) for column in rows.columns]
        counts = np.bincount(numbers, minlength=1 << self._bits)
        row_ends = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        offsets, _ = buffers(columns[0])
        byte_ends = offsets[row_ends]
        self._rows += counts
        self._bytes += np.diff(byte_ends) + counts * _bytes_a_row(self.schema)
        self._extents.append(_Extent(row_ends, byte_ends, []))
        return pa.record_batch(columns, schema=self.schema)

    def _store(self, buffered: Sequence[pa.RecordBatch]) -> None:
        """Write rows as a further extent."""
        rows = self._divided(buffered)
        offsets, data = buffers(rows["uid"])
        numbers = [each.to_numpy() for each in rows.columns[1:]]
        try:
            for each in (offsets, data, *numbers):
                self._extents[-1].places.append(self._size)
                content = _bytes_of(each)
                while content:
                    done = self._file.write(content)
                    self._size += done
                    content = content[done:]
        except OSError as error:
            raise unwritable(self.where, error) from error

    def _read(self, partition: Partition, extents: Sequence[_Extent]) -> pa.RecordBatch:
        """Return the rows of a partition in some extents."""
        span = self._span(partition)
        if self._kept is not None:
            [extent] = self._extents
            return self._kept.slice(extent.row_ends[span.start], _length(extent.row_ends, span))
        rows = sum(_length(each.row_ends, span) for each in extents)
        offsets = np.empty(rows + 1, np.int32)
        data = np.empty(sum(_length(each.byte_ends, span) for each in extents), np.uint8)
        columns = [np.empty(rows, each) for each in self._kinds]
        row = byte = offsets[0] = 0
        for extent in extents:
            first, count = int(extent.row_ends[span.start]), _length(extent.row_ends, span)
            first_byte, size = int(extent.byte_ends[span.start]), _length(extent.byte_ends, span)
            targets: list[npt.NDArray[Any]] = [
                offsets[row + 1 : row + 1 + count],
                data[byte : byte + size],
            ]
            targets += [each[row : row + count] for each in columns]
            starts = [(first + 1) * 4, first_byte, *(first * each.itemsize for each in self._kinds)]
            for place, start, target in zip(extent.places, starts, targets, strict=True):
                self._fill(target, place + start)
            targets[0] += byte - first_byte
            row, byte = row + count, byte + size
        uids = pa.Array.from_buffers(
            pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        return pa.record_batch([uids, *map(pa.array, columns)], schema=self.schema)

    def _fill(self, target: npt.NDArray[Any], place: int) -> None:
        """Read from a place of the file."""
        content = _bytes_of(target)
        while content:
            done = os.preadv(self._file.fileno(), [content], place)
            if not done:
                raise RuntimeError("a spool is shorter than what was written")
            place += done
            content = content[done:]


def _length(ends: npt.NDArray[np.int32], span: slice) -> int:
    """Return the rows or bytes of consecutive partitions."""
    return int(ends[span.stop] - ends[span.start])


def _bytes_of(values: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array; those of an empty one cannot be cast."""
    return values.data.cast("B") if values.size else memoryview(b"")


def _bytes_a_row(schema: pa.Schema) -> int:
    """Return the bytes of a row besides those of its uid, for which there is an offset."""
    return int(sum(each.type.bit_width // 8 for each in list(schema)[1:])) + 4


def joined(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of all batches as one."""
    if not batches:
        return pa.record_batch([pa.array([], each.type) for each in schema], schema=schema)
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


@contextmanager
def open_spool(
    folder: Path, schema: pa.Schema, settings: PlanningSettings, base: Partition = WHOLE
) -> Iterator[Spool]:
    """Open a spool whose file lies in `folder`, or in `plan.spill_dir` if that is set.

    Raises as `new_file` does, `ConfigError` if no file can be made in `plan.spill_dir`, and as
    `affordable`.
    """
    settings = affordable(settings)
    where = Path(settings.spill_dir) if settings.spill_dir else folder
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(buffering=0, dir=where)  # noqa: SIM115 - closed below
    except OSError as error:
        if is_full(error) or not settings.spill_dir:
            raise unwritable(where, error) from error
        raise ConfigError(
            f"`plan.spill_dir`: {where} cannot be written ({error.strerror})",
            hint="name a folder on a disk with room",
        ) from error
    buffered = settings.memory_megabytes * MEGABYTE // 4
    buffered = max(_LEAST_BUFFERED, min(buffered, _MOST_BUFFERED))
    with ExitStack() as opened:
        opened.enter_context(file)
        worker = None
        if threads_for(settings) > 1:
            worker = opened.enter_context(ThreadPoolExecutor(1, "spool"))
        yield Spool(file, worker, where, schema, buffered, base)


Reduce = Callable[[pa.RecordBatch], pa.RecordBatch]
"""Replaces the rows of each uid by one row, which may have further columns; it is also given rows
that it has returned."""


@dataclass(frozen=True, slots=True)
class Side:
    """Rows that are processed by partition, and how the rows of equal uids become fewer."""

    spool: Spool
    reduce: Reduce


def partitions(
    sides: Sequence[Side],
    limit: int,
    options: ComputeOptions,
    others: Callable[[Partition], int] = lambda _: 0,
) -> Iterator[tuple[Partition, list[pa.RecordBatch]]]:
    """Yield partitions, ascending and together all uids, each with the rows of every side.

    The rows of a partition and `others` of it take at most `limit` bytes together. To achieve this,
    a partition is divided further, as often as necessary; rows of the same uid, which no division
    separates, are reduced. Raises as `open_spool` and `Spool.write` do, and the error of a stop
    between two parts.
    """
    return _Division(limit, options, others).of(WHOLE, sides)


@dataclass(frozen=True, slots=True)
class _Division:
    """The division of spools into partitions within a limit."""

    limit: int
    options: ComputeOptions
    others: Callable[[Partition], int]

    def of(
        self, partition: Partition, sides: Sequence[Side]
    ) -> Iterator[tuple[Partition, list[pa.RecordBatch]]]:
        """Yield one partition, or those that it is divided into."""
        self.options.interruption.check()
        others = self.others(partition)
        room = self.limit - others
        size = sum(side.spool.bytes_in(partition) for side in sides)
        can_be_halved = partition.bits < min(side.spool.finest for side in sides)
        if size <= (min(room, _FAST - others) if can_be_halved else room):
            yield partition, [side.spool.rows(partition) for side in sides]
            return
        if can_be_halved:
            for half in partition.divided(1):
                yield from self.of(half, sides)
            return
        is_last = partition.bits == HASH_BITS
        found = self._reduced(partition, sides, None if is_last else room)
        if found is not None:
            yield partition, found
            return
        with ExitStack() as files:
            finer = [self._split(partition, side, files) for side in sides]
            for half in partition.divided(1):
                yield from self.of(half, finer)

    def _reduced(
        self, partition: Partition, sides: Sequence[Side], room: int | None
    ) -> list[pa.RecordBatch] | None:
        """Return the reduced rows of every side; None if they take more than `room` bytes."""
        found: list[pa.RecordBatch] = []
        for side in sides:
            rows = self._reduced_rows(partition, side, room)
            if rows is None:
                return None
            found.append(rows)
            if room is not None:
                room -= rows.nbytes
        return found

    def _reduced_rows(
        self, partition: Partition, side: Side, room: int | None
    ) -> pa.RecordBatch | None:
        """Reduce one side's rows part by part, so that only distinct uids are in memory."""
        kept = side.reduce(joined(side.spool.schema, []))
        parts: list[pa.RecordBatch] = []
        size = 0
        for rows in side.spool.batches(partition):
            self.options.interruption.check()
            parts.append(side.reduce(rows))
            size += parts[-1].nbytes
            # By this bound, no row is reduced more often than the logarithm of the parts.
            if size > max(kept.nbytes, _LEAST_BUFFERED):
                kept, parts, size = side.reduce(joined(kept.schema, [kept, *parts])), [], 0
                if room is not None and kept.nbytes > room:
                    return None
        kept = side.reduce(joined(kept.schema, [kept, *parts]))
        return None if room is not None and kept.nbytes > room else kept

    def _split(self, partition: Partition, side: Side, files: ExitStack) -> Side:
        """Return a side with the rows of one partition only, which is divided by further bits."""
        schema = side.spool.schema
        spool = files.enter_context(
            open_spool(side.spool.where, schema, self.options.settings, partition)
        )
        for rows in side.spool.batches(partition):
            self.options.interruption.check()
            spool.write(rows)
        spool.finish()
        return Side(spool, side.reduce)
