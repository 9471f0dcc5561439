"""Uids that are always left out of an export, such as those of people who have unsubscribed.

A push holds the list in memory, and filters each block between reading and planning; see
`ExcludingSource`. A mirror reads it by `excluded_blocks`, and leaves it to the comparison.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import EmptyExportError, SourceError, UsageError
from engine.model.quantity import counted
from engine.source.block import EXCLUDED, Block
from engine.source.formats.rows import runs_of
from engine.source.protocol import MeasuresReading, Source, files_of, is_rereadable
from engine.source.source_file import SourceFile
from engine.storage.arrow import buffers

MOST_UIDS = 16_000_000
"""Uids of a list in memory: measured, 16 million of 20 bytes hold 0.6 GB, and 0.7 GB at first."""
MOST_BYTES = 1_000_000_000
"""Bytes that those uids may have together."""

_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_HASHED_BYTES = 1 << 20
"""Uids of about this many bytes are hashed together."""
Hashes = npt.NDArray[np.uint64]


def excluded_blocks(source: Source) -> Iterator[Block]:
    """Yield the blocks of an exclusion list; none if no record has a uid.

    Raises `SourceError` for an invalid record: the uid that it stands for would be sent.
    """
    try:
        for block in source.blocks():
            for run in block.skipped:
                if run.kind != "blank":
                    raise SourceError(
                        f"{block.file}, record {run.record}: {run.reason}; the list must "
                        "be valid throughout",
                        hint="correct the list: a uid that cannot be read cannot be left out",
                    )
            yield block
    except EmptyExportError:
        return


class Exclusion:
    """A set of uids in memory, which finds those of a block that are in it."""

    def __init__(self, blocks: Iterable[Block], *, most_uids: int = MOST_UIDS) -> None:
        """Read the uids of `blocks`; raises as they do, and `UsageError` for too many uids."""
        arrays: list[pa.StringArray] = []
        hashes: list[Hashes] = []
        size = 0
        self.uids = 0
        """The number of uids, duplicates included."""
        for block in blocks:
            # A slice of a reader's block would keep all of it in memory.
            arrays.append(pa.concat_arrays([block.uids]))
            hashes.append(hashes_of(block.uids))
            self.uids += len(block.uids)
            size += pc.sum(pc.binary_length(block.uids)).as_py() or 0
            if self.uids > most_uids or size > MOST_BYTES:
                raise UsageError(
                    f"more than {counted(most_uids, 'uid')} or "
                    f"{MOST_BYTES:,} bytes of uids, which a push would hold in memory",
                    hint="a mirror takes lists of any size; or leave the uids out of the export",
                )
        self._uids = pa.chunked_array(arrays, pa.string())
        unsorted = np.concatenate([np.empty(0, np.uint64), *hashes])
        hashes.clear()
        self._order = np.argsort(unsorted).astype(np.int32)
        self._hashes: Hashes = unsorted[self._order]
        self.digest = hashlib.sha256(self._hashes.data).hexdigest()
        """Equal for lists of the same uids in any order."""

    def find(self, uids: pa.StringArray) -> npt.NDArray[np.bool_]:
        """Return which of `uids` are in the set."""
        found = np.zeros(len(uids), np.bool_)
        wanted = hashes_of(uids)
        # In the order of the hashes and of the list, memory is read from its start to its end.
        left = np.argsort(wanted)
        places = np.searchsorted(self._hashes, wanted[left])
        while True:
            is_listed = places < len(self._hashes)
            left, places = left[is_listed], places[is_listed]
            is_listed = self._hashes[places] == wanted[left]
            left, places = left[is_listed], places[is_listed]
            if not len(left):
                return found
            listed = np.argsort(self._order[places])
            left, places = left[listed], places[listed]
            known = self._uids.take(pa.array(self._order[places]))
            is_equal = pc.equal(known, pa.chunked_array([uids.take(pa.array(left))])).to_numpy()
            found[left[is_equal]] = True
            # Different uids may have one hash; then the next place has it too.
            left, places = left[~is_equal], places[~is_equal] + 1


class ExcludingSource:
    """A source without the uids of an exclusion; their records are skipped as `EXCLUDED`.

    Implements `Source`, and those capabilities of the source that it filters.
    """

    def __init__(self, source: Source, exclusion: Exclusion, identity: Mapping[str, Any]) -> None:
        """`identity` says which list that is, as JSON values."""
        self._source = source
        self._exclusion = exclusion
        self.exclusion_digest = exclusion.digest
        self.identity = {**source.identity, "exclude": dict(identity)}
        self.notes = source.notes
        self.uids_read = 0

    @property
    def files(self) -> Sequence[SourceFile]:
        """The files of the source. See `HasFiles`."""
        return files_of(self._source)

    @property
    def share_read(self) -> float | None:
        """The share of the source that was read. See `MeasuresReading`."""
        return self._source.share_read if isinstance(self._source, MeasuresReading) else None

    @property
    def is_rereadable(self) -> bool:
        """Whether the source can be read again. See `Rereadable`."""
        return is_rereadable(self._source)

    def blocks(self) -> Iterator[Block]:
        """Read from the start; see `Source.blocks`.

        Raises `EmptyExportError` at the end also if every uid is excluded.
        """
        self.uids_read = 0
        for block in self._source.blocks():
            kept = without(block, self._exclusion.find(block.uids))
            self.uids_read += len(kept.uids)
            yield kept
        if not self.uids_read:
            raise EmptyExportError(
                "nothing to send, each uid of the export is excluded",
                hint="compare the export with the exclusion list",
            )


def without(block: Block, excluded: npt.NDArray[np.bool_]) -> Block:
    """Return a block without the uids that are `excluded`, one mark for each uid."""
    if not excluded.any():
        return block
    reasons = ["", EXCLUDED, *{run.reason: None for run in block.skipped}]
    codes = np.zeros(block.records, np.int32)
    for run in block.skipped:
        start = run.record - block.first_record
        codes[start : start + run.count] = reasons.index(run.reason)
    codes[np.flatnonzero(codes == 0)[excluded]] = reasons.index(EXCLUDED)
    uids = block.uids.filter(pa.array(~excluded))
    return replace(block, uids=uids, skipped=runs_of(codes, reasons, block.first_record))


def hashes_of(uids: pa.StringArray) -> Hashes:
    """Return a hash of 64 bits for each uid; equal uids have equal hashes in every version."""
    offsets = buffers(uids)[0].astype(np.int64) if len(uids) else np.zeros(1, np.int64)
    cuts = np.searchsorted(offsets, np.arange(offsets[0], offsets[-1], _HASHED_BYTES)[1:])
    ends = np.unique([*cuts, len(uids)])
    starts = [0, *ends[:-1]]
    parts = [_hashes_of_few(uids.slice(a, b - a)) for a, b in zip(starts, ends, strict=True)]
    hashes: Hashes = np.concatenate(parts)
    return hashes


def _hashes_of_few(uids: pa.StringArray) -> Hashes:
    """Hash all uids at once: a sum over the bytes, each times a power of a factor, modulo 2**64.

    The sums of all uids are differences of running sums, divided by the power at their start.
    """
    if not len(uids):
        return np.empty(0, np.uint64)
    offsets, data = buffers(uids)
    bounds = offsets - offsets[0]
    with np.errstate(over="ignore"):
        factors = np.full(len(data) + 1, _FACTOR, np.uint64)
        factors[0] = 1
        sums = np.zeros(len(data) + 1, np.uint64)
        np.cumsum((data.astype(np.uint64) + np.uint64(1)) * np.cumprod(factors)[:-1], out=sums[1:])
        factors[1:] = _INVERSE
        inverses = np.cumprod(factors)
        hashes: Hashes = (sums[bounds[1:]] - sums[bounds[:-1]]) * inverses[bounds[:-1]]
    return hashes
