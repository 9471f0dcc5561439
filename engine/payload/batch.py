"""Uids into payloads under the byte limit, greedily: one closes when the next uid would not fit.

The cut is vectorised over encoded lengths, and no uid becomes a Python object but the rare one that
JSON has to escape, which orjson encodes. Arrow joins the members, byte for byte what orjson would
write, and one call of orjson puts them into their envelope. Where the ledger already knows an
export's first batches, the cut follows their uid counts instead of the limit, which may have
changed since, and proves by digests that the uids are still the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from engine.errors import ExportChangedError, UsageError
from engine.model.cohort import Operation
from engine.payload.envelope import Envelope
from engine.payload.member_json import (
    BETWEEN_UIDS,
    MEMBER_BYTES,
    MEMBER_END,
    MEMBER_START,
    UidSlice,
    digest_of,
    encoded,
)
from engine.source.arrow import buffers
from engine.source.block import Block, Skipped


@dataclass(frozen=True, slots=True)
class PackingSettings:
    """How large a payload may be on the wire, envelope included."""

    payload_bytes: Annotated[int, Ge(1), Le(1_048_576)] = 128_000


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Uids of one batch that stand in one file, in order."""

    file: str
    count: int
    first_record: int
    """Where the first uid would stand if `gaps` were empty."""
    gaps: tuple[tuple[int, int], ...]
    """(i, n): n records without a uid stand before the i-th uid of this stretch."""

    def record(self, index: int) -> int:
        """Return the record number of the `index`-th uid, from 0."""
        return self.first_record + index + sum(n for at, n in self.gaps if at <= index)


@dataclass(frozen=True, slots=True)
class SkippedRows:
    """Consecutive records of one file that plan no uid."""

    file: str
    rows: Skipped


def blank_among(skipped: Iterable[SkippedRows]) -> int:
    """How many of the records are blank."""
    return sum(each.rows.count for each in skipped if each.rows.is_blank)


def invalid_among(skipped: Iterable[SkippedRows]) -> int:
    """How many of the records are invalid."""
    return sum(each.rows.count for each in skipped if not each.rows.is_blank)


@dataclass(frozen=True, slots=True)
class UidlessRows:
    """Rows of which none holds a uid, so that no batch can carry them into the books."""

    records: int
    """By the reader's own count."""
    skipped: tuple[SkippedRows, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """A payload, and what the books must know of it."""

    number: int | None
    """Its number in the ledger, if that knows it already."""
    envelope: Envelope
    """What its payload is made of besides its uids."""
    operation: Operation
    first_uid: int
    """The place of its first uid in its operation, from 0."""
    uid_count: int
    payload: bytes
    """Over the limit only where it holds a single uid that can never fit."""
    digest: bytes
    """SHA-256 of its uids: their byte lengths as little-endian int32, then their bytes."""
    stretches: tuple[SourceSpan, ...]
    skipped: tuple[SkippedRows, ...]
    """Blank and invalid records since the batch before; the last batch has those at the end too."""
    records_through: int
    """Records of the export up to the end of this batch, by the reader's own count."""
    is_last: bool
    """Whether the export ends with this batch."""
    were_rejected: bool = False
    """Whether the API would not take any of its uids on an earlier night."""

    @property
    def blank(self) -> int:
        """How many of the skipped records are blank."""
        return blank_among(self.skipped)

    @property
    def invalid(self) -> int:
        """How many of the skipped records are invalid."""
        return invalid_among(self.skipped)

    @property
    def file_uids(self) -> Mapping[str, int]:
        """How many of the uids come from each file, by the file's name."""
        uids: Counter[str] = Counter()
        for stretch in self.stretches:
            uids[stretch.file] += stretch.count
        return uids

    def place(self, index: int) -> tuple[str, int]:
        """Return file and record number of the `index`-th uid, from 0."""
        for stretch in self.stretches:
            if index < stretch.count:
                return stretch.file, stretch.record(index)
            index -= stretch.count
        raise IndexError(index)


@dataclass(frozen=True, slots=True)
class KnownBatch:
    """What the ledger holds of a batch from an earlier execution."""

    number: int
    uid_count: int
    records_through: int
    digest: bytes
    is_last: bool
    is_open: bool
    """Whether any of its uids is still to be delivered."""


class _BlockCursor:
    """A block, and how far it has been cut."""

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
        # How many uids stand before each skipped run: its offset less the runs before it.
        self._uids_before = records - block.first_record - self._skipped_before[:-1]

    def fitting(self, room: int) -> int:
        """Return how many of the uids left fit into `room` bytes."""
        start = int(self._ends[self.taken - 1]) if self.taken else 0
        return max(0, int(np.searchsorted(self._ends, start + room, side="right")) - self.taken)

    def size(self, count: int) -> int:
        """Return the bytes that the next `count` uids take as members."""
        start = int(self._ends[self.taken - 1]) if self.taken else 0
        return int(self._ends[self.taken + count - 1]) - start

    def take(self, count: int) -> tuple[UidSlice, SourceSpan, Sequence[Skipped]]:
        """Return the next `count` uids, where they stand, and the skipped runs before each."""
        start, end = self.taken, self.taken + count
        self.taken = end
        first, last = np.searchsorted(self._uids_before, (start, end), side="left")
        gaps = tuple(
            (int(self._uids_before[k]) - start, self.block.skipped[k].count)
            for k in range(first, last)
        )
        stretch = SourceSpan(
            self.block.file,
            count,
            self.block.first_record + start + int(self._skipped_before[first]),
            gaps,
        )
        part = UidSlice(self.block.uids.slice(start, count), self._encoded.slice(start, count))
        return part, stretch, self.block.skipped[first:last]

    def rest(self) -> Sequence[Skipped]:
        """Return the skipped runs behind the last uid."""
        return self.block.skipped[int(np.searchsorted(self._uids_before, self.taken)) :]

    @property
    def left(self) -> int:
        """How many uids have not been taken."""
        return len(self.block.uids) - self.taken

    @property
    def records_through(self) -> int:
        """Records of the export up to the last uid taken."""
        skipped = int(self._skipped_before[np.searchsorted(self._uids_before, self.taken)])
        return self.records_before + self.taken + skipped


@dataclass(slots=True)
class Limit:
    """How large a payload may be: one limit for all that is cut for one API."""

    configured_bytes: int
    """The limit that was configured: what is larger can never be sent."""
    payload_bytes: int
    """The limit in force, which an answer of 413 lowers for the batches to come."""


class Cutter:
    """Cuts an export's blocks into batches, one after the other."""

    def __init__(  # noqa: PLR0913 - what is cut, how small, and where the cut goes on
        self,
        envelope: Envelope,
        payload_bytes: int,
        known: Sequence[KnownBatch] = (),
        *,
        operation: Operation | None = None,
        first_uid: int = 0,
        limit: Limit | None = None,
        were_rejected: bool = False,
    ) -> None:
        """Count the uids of `operation`, by default the envelope's action, from `first_uid`.

        `limit` is shared with others that cut for the same API.

        Raises `UsageError` if not even one short uid fits beside the envelope.
        """
        self._envelope = envelope
        self._operation = operation or Operation(envelope.action)
        self._known = known
        if payload_bytes < len(envelope) + MEMBER_BYTES:
            raise UsageError(
                f"limits.payload_bytes = {payload_bytes} leaves no room for a uid: the request "
                f"takes {len(envelope)} bytes without members",
                hint="raise limits.payload_bytes, or shorten the cohort's description",
            )
        self.limit = limit or Limit(payload_bytes, payload_bytes)
        self._were_rejected = were_rejected
        # The members come last in a payload.
        self._parts: list[UidSlice] = []
        self._stretches: list[SourceSpan] = []
        self._skipped: list[SkippedRows] = []
        self._held: list[SkippedRows] = []
        self._first_uid = first_uid
        self._uid_count = 0
        self._size = 0
        self._records = 0
        self._records_through = 0

    def batches(self, blocks: Iterable[Block]) -> Iterator[Batch]:
        """Yield the export's batches in order, those that the ledger knows and has open first.

        Raises `ExportChangedError` at the first known batch whose uids are no longer there.
        """
        known = iter(self._known)
        aim = next(known, None)
        for block in blocks:
            cursor = _BlockCursor(block, self._records)
            self._records += block.records
            while cursor.left:
                if aim is not None:
                    self._take(cursor, min(aim.uid_count - self._uid_count, cursor.left))
                    # The last batch of an export has the rows behind its last uid as well.
                    if self._uid_count == aim.uid_count and not aim.is_last:
                        yield from self._close_known(aim)
                        aim = next(known, None)
                    elif self._uid_count == aim.uid_count and cursor.left:
                        raise _changed(aim)
                    continue
                room = self.limit.payload_bytes - len(self._envelope) + 1 - self._size
                count = cursor.fitting(room)
                if count:
                    self._take(cursor, count)
                elif self._uid_count:
                    yield self._close()
                else:
                    # It can never fit: a batch of its own, too large, for the books to reject.
                    self._take(cursor, 1)
            self._hold(block.file, cursor.rest())
        yield from self._finish(aim)

    @property
    def uidless(self) -> UidlessRows | None:
        """The rows read so far, as long as none of them holds a uid; None once one has."""
        if self._first_uid or self._uid_count or not self._records:
            return None
        return UidlessRows(self._records, tuple(self._held))

    def _finish(self, aim: KnownBatch | None) -> Iterator[Batch]:
        if aim is not None and not (aim.is_last and self._uid_count == aim.uid_count):
            raise _changed(aim)
        if self._uid_count:
            self._skipped += self._held
            self._records_through = self._records
            if aim is None:
                yield self._close(is_last=True)
            else:
                yield from self._close_known(aim)
        elif self._known:
            # The last known batch was closed because a uid followed it, which is now gone.
            raise _changed(self._known[-1])

    def _take(self, cursor: _BlockCursor, count: int) -> None:
        self._size += cursor.size(count)
        part, stretch, skipped = cursor.take(count)
        self._parts.append(part)
        self._stretches.append(stretch)
        self._uid_count += count
        self._hold(stretch.file, skipped)
        self._skipped += self._held
        self._held = []
        self._records_through = cursor.records_through

    def _hold(self, file: str, skipped: Sequence[Skipped]) -> None:
        """Keep skipped runs until the uid behind them tells which batch they ride with."""
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
        if (self._records_through, digest_of(self._parts)) != (known.records_through, known.digest):
            raise _changed(known)
        if known.is_open:
            yield self._close(known, is_last=known.is_last)
        else:
            self._clear()

    def _close(self, known: KnownBatch | None = None, *, is_last: bool = False) -> Batch:
        batch = Batch(
            number=known.number if known else None,
            envelope=self._envelope,
            operation=self._operation,
            first_uid=self._first_uid,
            uid_count=self._uid_count,
            payload=self._payload(),
            digest=known.digest if known else digest_of(self._parts),
            stretches=tuple(self._stretches),
            skipped=tuple(self._skipped),
            records_through=self._records_through,
            is_last=is_last,
            were_rejected=self._were_rejected,
        )
        self._clear()
        return batch

    def _payload(self) -> bytes:
        members = BETWEEN_UIDS.join([part.members for part in self._parts])
        return self._envelope.enclose_encoded(b"[" + MEMBER_START + members + MEMBER_END + b"]")

    def _clear(self) -> None:
        self._parts, self._stretches, self._skipped = [], [], []
        self._first_uid += self._uid_count
        self._uid_count = self._size = 0


def _changed(known: KnownBatch) -> ExportChangedError:
    return ExportChangedError(
        f"the export has changed since this run began: batch {known.number} no longer holds the "
        "same rows",
        hint="put the export back to go on, or pass --on-changed restart to begin a new run",
    )
