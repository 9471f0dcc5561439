"""Cuts uids greedily into payloads: a payload is closed when the next uid would exceed the limit.

The cut is vectorised over encoded lengths. Only the rare uids that JSON has to escape become Python
objects; orjson encodes them. Arrow joins the members, with the same bytes that orjson would write,
and one call of orjson puts them into their envelope. If the ledger already holds an export's first
batches, the cut follows their uid counts instead of the limit, which may have changed, and verifies
by digests that the uids are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.errors import ExportChangedError
from engine.model.cohort import Operation
from engine.payload.batch import Batch, FindPlace, KnownBatch, SkippedRows, SourceSpan, UidlessRows
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.payload.member_json import (
    MEMBER_BYTES,
    digest_of,
    encoded,
    members_of_encoded,
)
from engine.source.block import Block, Skipped
from engine.storage.arrow import buffers


@dataclass(frozen=True, slots=True)
class OperationSection:
    """Consecutive uids of an operation, which are cut into batches."""

    operation: Operation
    first_uid: int = 0
    """The position of the first uid in the operation, from 0."""
    were_rejected: bool = False
    """Whether the API rejected each uid in an earlier run."""
    find_place: FindPlace | None = None
    """Finds the places of the uids in the export, if the blocks do not hold them."""


class _BlockCursor:
    """A block, and the number of uids cut from it."""

    def __init__(self, block: Block, records_before: int) -> None:
        self.block = block
        self.records_before = records_before
        self.taken = 0
        self._encoded = encoded(block.uids)
        lengths = np.diff(buffers(self._encoded)[0]).astype(np.int64)
        self._ends = np.cumsum(lengths + MEMBER_BYTES)
        counts = np.array([s.count for s in block.skipped], np.int64)
        self._skipped_before = np.concatenate(([0], np.cumsum(counts)))
        records = np.array([s.record for s in block.skipped], np.int64)
        # Number of uids before each skipped run: its offset minus the runs before it.
        self._uids_before = records - block.first_record - self._skipped_before[:-1]

    def fitting(self, room: int) -> int:
        """Return how many of the remaining uids fit into `room` bytes."""
        start = int(self._ends[self.taken - 1]) if self.taken else 0
        return max(0, int(np.searchsorted(self._ends, start + room, side="right")) - self.taken)

    def size(self, count: int) -> int:
        """Return the size in bytes of the next `count` uids as members."""
        start = int(self._ends[self.taken - 1]) if self.taken else 0
        return int(self._ends[self.taken + count - 1]) - start

    def take(self, count: int) -> tuple["_Part", Sequence[Skipped]]:
        """Return the next `count` uids, and the skipped runs before each."""
        start, end = self.taken, self.taken + count
        self.taken = end
        first, last = np.searchsorted(self._uids_before, (start, end), side="left")
        gaps = tuple(
            (int(self._uids_before[k]) - start, self.block.skipped[k].count)
            for k in range(first, last)
        )
        first_record = self.block.first_record + start + int(self._skipped_before[first])
        span = SourceSpan(self.block.file, count, first_record, gaps)
        uids = self.block.uids.slice(start, count)
        is_plain = self._encoded is self.block.uids
        encoded_uids = uids if is_plain else self._encoded.slice(start, count)
        return _Part(uids, encoded_uids, span), self.block.skipped[first:last]

    def rest(self) -> Sequence[Skipped]:
        """Return the skipped runs after the last uid."""
        return self.block.skipped[int(np.searchsorted(self._uids_before, self.taken)) :]

    @property
    def left(self) -> int:
        """The number of uids not taken yet."""
        return len(self.block.uids) - self.taken

    @property
    def records_through(self) -> int:
        """Records of the export up to the last uid taken."""
        skipped = int(self._skipped_before[np.searchsorted(self._uids_before, self.taken)])
        return self.records_before + self.taken + skipped


@dataclass(frozen=True, slots=True)
class _Part:
    """Uids of a batch from one block: slices of the block."""

    uids: pa.StringArray
    encoded: pa.StringArray
    span: SourceSpan


class Cutter:
    """Cuts an export's blocks into batches, in order."""

    def __init__(
        self,
        envelope: Envelope,
        limit: Limit,
        known: Sequence[KnownBatch] = (),
        section: OperationSection | None = None,
    ) -> None:
        """Cut under `limit`, which other cutters for the same API may share.

        `known` are the batches in the ledger, starting with the first. `section` describes the uids
        in the blocks; the default is all uids of the envelope's action.
        """
        self.limit = limit
        self._envelope = envelope
        self._known = known
        self._empty_bytes = len(envelope)
        self._section = section or OperationSection(Operation(envelope.action))
        self._parts: list[_Part] = []
        self._skipped: list[SkippedRows] = []
        self._held: list[SkippedRows] = []
        self._first_uid = self._section.first_uid
        self._uid_count = 0
        self._size = 0
        self._records = 0
        self._records_through = 0

    def batches(self, blocks: Iterable[Block]) -> Iterator[Batch]:
        """Yield the export's batches in order; batches known to the ledger only if they are open.

        Raises `ExportChangedError` at the first known batch whose uids have changed.
        """
        known = iter(self._known)
        expected = next(known, None)
        for block in blocks:
            cursor = _BlockCursor(block, self._records)
            self._records += block.records
            while cursor.left:
                if expected is not None:
                    self._take(cursor, min(expected.uid_count - self._uid_count, cursor.left))
                    # The last batch of an export includes the rows after its last uid.
                    if self._uid_count == expected.uid_count and not expected.is_last:
                        yield from self._close_known(expected)
                        expected = next(known, None)
                    elif self._uid_count == expected.uid_count and cursor.left:
                        raise _changed(expected)
                    continue
                room = self.limit.payload_bytes - self._empty_bytes + 1 - self._size
                count = cursor.fitting(room)
                if count:
                    self._take(cursor, count)
                elif self._uid_count:
                    yield self._close()
                else:
                    # This uid can never fit: its batch is too large and will be rejected.
                    self._take(cursor, 1)
            self._hold(block.file, cursor.rest())
        yield from self._finish(expected)

    @property
    def uidless(self) -> UidlessRows | None:
        """The rows read so far if none of them holds a uid; otherwise None."""
        if self._first_uid or self._uid_count or not self._records:
            return None
        return UidlessRows(self._records, tuple(self._held))

    def _finish(self, expected: KnownBatch | None) -> Iterator[Batch]:
        if expected is not None and not (
            expected.is_last and self._uid_count == expected.uid_count
        ):
            raise _changed(expected)
        if self._uid_count:
            self._skipped += self._held
            self._records_through = self._records
            if expected is None:
                yield self._close(is_last=True)
            else:
                yield from self._close_known(expected)
        elif self._known:
            # The last known batch was closed because a uid followed it; that uid is missing now.
            raise _changed(self._known[-1])

    def _take(self, cursor: _BlockCursor, count: int) -> None:
        self._size += cursor.size(count)
        part, skipped = cursor.take(count)
        self._parts.append(part)
        self._uid_count += count
        self._hold(part.span.file, skipped)
        self._skipped += self._held
        self._held = []
        self._records_through = cursor.records_through

    def _hold(self, file: str, skipped: Sequence[Skipped]) -> None:
        """Keep skipped runs until the next uid determines their batch."""
        for run in skipped:
            if self._held:
                last = self._held[-1]
                if (
                    last.file == file
                    and last.rows.reason == run.reason
                    and last.rows.record + last.rows.count == run.record
                ):
                    longer = Skipped(last.rows.record, last.rows.count + run.count, run.reason)
                    self._held[-1] = SkippedRows(file, longer)
                    continue
            self._held.append(SkippedRows(file, run))

    def _close_known(self, known: KnownBatch) -> Iterator[Batch]:
        digest = digest_of(self._uids())
        if (self._records_through, digest) != (known.records_through, known.digest):
            raise _changed(known)
        if known.is_open:
            yield self._close(known.number, is_last=known.is_last)
        else:
            self._clear()

    def _close(self, number: int | None = None, *, is_last: bool = False) -> Batch:
        uids = self._uids()
        batch = Batch(
            number=number,
            envelope=self._envelope,
            operation=self._section.operation,
            first_uid=self._first_uid,
            uids=uids,
            payload=self._envelope.enclose(members_of_encoded(self._encoded(uids))),
            digest=digest_of(uids),
            spans=tuple(part.span for part in self._parts),
            skipped=tuple(self._skipped),
            records_through=self._records_through,
            is_last=is_last,
            were_rejected=self._section.were_rejected,
            find_place=self._section.find_place,
        )
        self._clear()
        return batch

    def _uids(self) -> pa.StringArray:
        return pa.concat_arrays([part.uids for part in self._parts])

    def _encoded(self, uids: pa.StringArray) -> pa.StringArray:
        """Return the encoded uids of the batch: `uids` itself if no uid needs escapes."""
        if all(part.encoded is part.uids for part in self._parts):
            return uids
        return pa.concat_arrays([part.encoded for part in self._parts])

    def _clear(self) -> None:
        self._parts, self._skipped = [], []
        self._first_uid += self._uid_count
        self._uid_count = self._size = 0


def _changed(known: KnownBatch) -> ExportChangedError:
    return ExportChangedError(
        f"the export has changed since this run began: batch {known.number} no longer holds the "
        "same rows",
        hint="put the export back to go on, or pass --on-changed restart to begin a new run",
    )
