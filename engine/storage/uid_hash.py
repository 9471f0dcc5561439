"""The 64-bit hash of a uid, by which uids are divided into partitions, and snapshots are sorted.

The hash is stored nowhere, but the order of a snapshot's rows depends on it. So a change of the
hash is a new `HASH_VERSION`.

Version 1, where all arithmetic is modulo 2^64, and `>>` is the logical shift:

    word(j)  the bytes 8j to 8j + 7 of the uid, little-endian; bytes after its end are 0
    k(j)     output j of splitmix64 from the state 0, with its lowest bit set; j counts from 0
    t(j)     word(j) · k(2j);  t(j) = t(j) xor (t(j) >> 32);  t(j) = t(j) · k(2j + 1)
    h        the length in bytes · 0x9e3779b97f4a7c15 + t(0) + t(1) + …
    hash     the final mixer of MurmurHash3, `fmix64`, of h

A uid's partition is given by the highest bits of its hash. Two uids may have the same hash: whoever
compares hashes has to compare the bytes, too.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.arrow import buffers

HASH_VERSION = 1
HASH_BITS = 64

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_WORD = 8
_ROWS = 4096
"""Rows that are hashed together, so that their words stay in the processor's cache."""
_BYTES = 1 << 20
"""The most bytes of padded uids that are hashed together."""
_SHORT = 64
"""Longer uids are padded to another width than these."""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """The uids whose hashes have the number `index` as their `bits` highest bits."""

    bits: int
    """From 0, which is all uids, to `HASH_BITS`."""
    index: int

    @property
    def first(self) -> int:
        """The lowest hash of the partition."""
        return self.index << (HASH_BITS - self.bits)

    @property
    def last(self) -> int:
        """The highest hash of the partition."""
        return ((self.index + 1) << (HASH_BITS - self.bits)) - 1

    @classmethod
    def of(cls, value: int, bits: int) -> Self:
        """Return the partition of so many bits that a hash belongs to."""
        return cls(bits, value >> (HASH_BITS - bits))

    def divided(self, bits: int) -> list[Self]:
        """Return the partitions of this one by so many more bits, ascending."""
        first = self.index << bits
        return [type(self)(self.bits + bits, first + each) for each in range(1 << bits)]


WHOLE = Partition(0, 0)
"""The partition of all uids."""


def hashes(uids: pa.BinaryArray) -> npt.NDArray[np.uint64]:
    """Return the hash of each uid; equal bytes have equal hashes. `uids` has no nulls."""
    found = np.empty(len(uids), np.uint64)
    for start in range(0, len(uids), _ROWS):
        _hash_by_width(uids.slice(start, _ROWS), found[start : start + _ROWS])
    return found


def partition_of(uid: bytes, bits: int) -> Partition:
    """Return the partition of so many bits that a uid belongs to."""
    [value] = hashes(pa.array([uid], pa.binary())).tolist()
    return Partition.of(value, bits)


def _hash_by_width(uids: pa.BinaryArray, found: npt.NDArray[np.uint64]) -> None:
    """Hash a few thousand uids into `found`, short and long ones apart."""
    offsets, data = buffers(uids)
    lengths = np.diff(offsets)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest and not longest % _WORD:
        words = data.view("<u8").reshape(len(uids), longest // _WORD)
        rows = max(1, _BYTES // max(longest, 1))
        for start in range(0, len(uids), rows):
            _hash_words(words[start : start + rows], longest, found[start : start + rows])
        return
    if longest <= _SHORT:
        _hash_padded(uids, lengths, found)
        return
    # The classes double in width, so that padding at most doubles the bytes of a long uid.
    classes = np.ceil(np.log2(np.maximum(lengths, _SHORT)))
    for each in np.unique(classes):
        [chosen] = np.nonzero(classes == each)
        rows = max(1, _BYTES >> int(each))
        for start in range(0, len(chosen), rows):
            places = chosen[start : start + rows]
            part = np.empty(len(places), np.uint64)
            _hash_padded(uids.take(pa.array(places)), lengths[places], part)
            found[places] = part


def _hash_padded(
    uids: pa.BinaryArray, lengths: npt.NDArray[np.int32], found: npt.NDArray[np.uint64]
) -> None:
    """Hash uids of different lengths, each padded with zeros to the width of the longest."""
    width = -(-int(lengths.max()) // _WORD)
    # Arrow pads strings only; it reads them as bytes, valid or not.
    texts = pa.StringArray.from_buffers(len(uids), *uids.buffers()[1:], offset=uids.offset)
    padded = pc.ascii_rpad(texts, width * _WORD, padding="\0")
    words = buffers(padded)[1].view("<u8").reshape(len(uids), width)
    _hash_words(words, lengths, found)


def _hash_words(
    words: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int32] | int,
    found: npt.NDArray[np.uint64],
) -> None:
    """Hash uids that are given as rows of words into `found`."""
    factors = _factors(words.shape[1])
    # One row a word position: numpy's innermost loop then has the length of the block.
    mixed = np.empty(words.shape[::-1], np.uint64)
    np.multiply(words.T, factors[0::2, None], out=mixed)
    shifted = mixed >> np.uint64(32)
    mixed ^= shifted
    mixed *= factors[1::2, None]
    mixed.sum(axis=0, out=found)
    found += np.asarray(lengths).astype(np.uint64) * np.uint64(_GOLDEN)
    _finish(found)


def _finish(found: npt.NDArray[np.uint64]) -> None:
    """Apply the final mixer of MurmurHash3 in place."""
    shifted = found >> np.uint64(33)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        found ^= shifted
        found *= np.uint64(factor)
        np.right_shift(found, np.uint64(33), out=shifted)
    found ^= shifted


@lru_cache(maxsize=64)
def _factors(words: int) -> npt.NDArray[np.uint64]:
    """Return the two factors of each of so many words, in turn."""
    return np.array([_splitmix64(each) | 1 for each in range(2 * words)], np.uint64)


def _splitmix64(number: int) -> int:
    """Return one output of the generator splitmix64 from the state 0."""
    mixed = (_GOLDEN * (number + 1)) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


def stable_order(keys: npt.NDArray[np.uint64], bits: int = 0) -> npt.NDArray[np.int64]:
    """Return the places of keys in ascending order; equal keys stay in their order.

    All keys have the same `bits` highest bits.
    """
    # numpy sorts 16 bits in linear time. After the highest 32 bits, hardly any are out of order,
    # and the last sort takes linear time, too.
    following = keys << np.uint64(min(bits, HASH_BITS - 1))
    order = np.argsort((following >> np.uint64(32)).astype(np.uint16), kind="stable")
    highest = (following >> np.uint64(48)).astype(np.uint16)
    order = order[np.argsort(highest[order], kind="stable")]
    return order[np.argsort(keys[order], kind="stable")]
