"""Rows grouped by uid, against a model; also if different uids have the same hash."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storage import uid_groups
from engine.storage.uid_groups import find_rows, group_uids
from engine.storage.uid_hash import hashes, stable_order

COLUMNS = st.lists(st.lists(st.binary(max_size=3), max_size=30), min_size=1, max_size=3)


def weak(uids: pa.BinaryArray) -> npt.NDArray[np.uint64]:
    """Return hashes of which there are only four."""
    return hashes(uids) & np.uint64(3 << 62)


@pytest.mark.parametrize("hash_of", [hashes, weak])
@given(columns=COLUMNS)
def test_rows_are_grouped_by_uid_and_ordered_by_hash(
    hash_of: object, columns: list[list[bytes]]
) -> None:
    """In a group, the rows are in the order of the columns."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uid_groups, "hashes", hash_of)
        found = group_uids([pa.array(each, pa.binary()) for each in columns])
    rows = [uid for column in columns for uid in column]
    values = [int(value) for value in uid_groups.hashes(pa.array(rows, pa.binary()))]
    if hash_of is weak:
        values = [int(value) for value in weak(pa.array(rows, pa.binary()))]
    expected: dict[tuple[int, bytes], list[int]] = {}
    for place, (value, uid) in enumerate(zip(values, rows, strict=True)):
        expected.setdefault((value, uid), []).append(place)
    groups = [
        found.order[start:end].tolist() for start, end in zip(found.starts, found.ends, strict=True)
    ]
    assert groups == [expected[each] for each in sorted(expected)]
    assert found.uids.to_pylist() == rows


UIDS = st.binary(max_size=2)


@pytest.mark.parametrize("hash_of", [hashes, weak])
@given(known=st.sets(UIDS, max_size=40), uids=st.lists(UIDS, max_size=40))
def test_rows_are_found_by_uid(
    hash_of: Callable[[pa.BinaryArray], npt.NDArray[np.uint64]],
    known: set[bytes],
    uids: list[bytes],
) -> None:
    """Also if different uids have the same hash."""
    column = pa.array(sorted(known), pa.binary())
    order = stable_order(hash_of(column))
    column = column.take(pa.array(order))
    asked = pa.array(uids, pa.binary())
    found = find_rows(column, hash_of(column), asked, hash_of(asked))
    rows = {uid: row for row, uid in enumerate(column.to_pylist())}
    assert found.tolist() == [rows.get(uid, -1) for uid in uids]


@given(
    st.lists(st.integers(0, 2**56 - 1) | st.integers(0, 40).map(lambda each: each << 30)),
    st.sampled_from([0, 8]),
)
def test_the_order_of_keys_is_stable(numbers: list[int], bits: int) -> None:
    """Also of keys that differ in their lowest bits only."""
    expected = sorted(range(len(numbers)), key=lambda place: numbers[place])
    assert stable_order(np.array(numbers, np.uint64), bits).tolist() == expected
