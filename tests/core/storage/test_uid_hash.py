"""The hash of uids: fixed values, equal for equal bytes, and evenly distributed."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storage.uid_hash import HASH_BITS, HASH_VERSION, WHOLE, Partition, hashes

UIDS = st.lists(
    st.one_of(st.binary(max_size=40), st.binary(min_size=60, max_size=300)), min_size=1, max_size=60
)


def documented(uid: bytes) -> int:
    """Compute the hash as the module describes it, with Python's integers."""
    mask = 2**64 - 1

    def k(number: int) -> int:
        state = (0x9E3779B97F4A7C15 * (number + 1)) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        return (state ^ (state >> 31)) | 1

    h = len(uid) * 0x9E3779B97F4A7C15
    for j in range(-(-len(uid) // 8)):
        t = (int.from_bytes(uid[8 * j : 8 * j + 8], "little") * k(2 * j)) & mask
        t ^= t >> 32
        h += t * k(2 * j + 1)
    h &= mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = ((h ^ (h >> 33)) * factor) & mask
    return h ^ (h >> 33)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (b"", 0x0000000000000000),
        (b"a", 0x1C937F93420AD4D7),
        (b"user-0001", 0xC8E0307CCE78DB70),
        (b"0123456789abcdef01234567", 0x306CB4FBDBC069CE),
        (b"x" * 10_000, 0xB5DB8CBD6BD7EE90),
    ],
)
def test_the_hash_of_version_1_has_these_values(uid: bytes, expected: int) -> None:
    """Snapshots on disk are sorted by it: another value needs another version."""
    assert HASH_VERSION == 1
    assert hashes(pa.array([uid], pa.binary())).tolist() == [expected]


@given(UIDS, st.integers(0, 5))
def test_the_hash_is_the_documented_one_whatever_the_neighbours(
    uids: list[bytes], skipped: int
) -> None:
    """Neither the other uids nor the offset of the array change it."""
    whole = pa.array([b"before"] * skipped + uids, pa.binary())
    assert hashes(whole.slice(skipped)).tolist() == [documented(uid) for uid in uids]


@pytest.mark.parametrize("length", [24, 17])
def test_uids_of_equal_length_have_the_documented_hash(length: int) -> None:
    """Also where they are hashed without padding, and over more than one block."""
    uids = [b"%0*d" % (length, number) for number in range(5000)]
    found = hashes(pa.array(uids, pa.binary()))
    assert [found[each] for each in (0, 4095, 4096, 4999)] == [
        documented(uids[each]) for each in (0, 4095, 4096, 4999)
    ]


@pytest.mark.parametrize(
    "pattern", ["{:d}", "{:012d}", "{:024x}", "user{:d}@example.com", "{:d}-4000-8000-0000"]
)
def test_similar_uids_are_distributed_evenly(pattern: str) -> None:
    """The highest bits divide them into partitions of about the same size, without collisions."""
    count = 100_000
    found = hashes(pa.array([pattern.format(each).encode() for each in range(count)], pa.binary()))
    sizes = np.bincount((found >> np.uint64(HASH_BITS - 8)).astype(np.int64), minlength=256)
    mean = count / 256
    chi_square = float(((sizes - mean) ** 2 / mean).sum())
    assert chi_square < 255 + 5 * (2 * 255) ** 0.5
    assert len(np.unique(found)) == count
    assert len(np.unique(found & np.uint64(2**40 - 1))) > count * 0.9999


def test_partitions_cover_the_hashes_without_overlap() -> None:
    """The parts of a partition follow each other and have its limits."""
    parts = Partition(3, 5).divided(2)
    assert parts[0].first == Partition(3, 5).first
    assert parts[-1].last == Partition(3, 5).last
    assert all(a.last + 1 == b.first for a, b in pairwise(parts))
    assert (WHOLE.first, WHOLE.last) == (0, 2**64 - 1)
