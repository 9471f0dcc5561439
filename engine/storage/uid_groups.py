"""Groups rows by their uids, exactly: by the hash, and the bytes of each match are verified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.storage.uid_hash import hashes, stable_order

_PAIRS = 65_536
"""Matches that are verified together."""


@dataclass(frozen=True, slots=True)
class UidGroups:
    """The rows of several columns of uids, ordered by hash and uid; equal uids are a group."""

    uids: pa.BinaryArray
    """The columns after each other."""
    hashes: npt.NDArray[np.uint64]
    """The hash of each of them."""
    order: npt.NDArray[np.int64]
    """The rows in their order; in a group, in the order of the columns and of their rows."""
    starts: npt.NDArray[np.int64]
    """Where in `order` each group starts."""
    ends: npt.NDArray[np.int64]


def group_uids(
    columns: Sequence[pa.BinaryArray],
    bits: int = 0,
    sorted_hashes: npt.NDArray[np.uint64] | None = None,
) -> UidGroups:
    """Group the rows of all `columns`, whose uids are in one partition of so many `bits`.

    `sorted_hashes` are the hashes of the first column, if it is sorted by them.
    """
    uids = columns[0] if len(columns) == 1 else pa.concat_arrays(columns)
    if sorted_hashes is None:
        keys = values = hashes(uids)
        order = stable_order(keys, bits)
    else:
        others = np.concatenate([np.empty(0, np.uint64), *map(hashes, columns[1:])])
        keys = values = np.concatenate([sorted_hashes, others])
        order = _merged_order(sorted_hashes, others, bits)
    is_same = _is_same(keys, order)
    if not _all_equal(uids, order, is_same):
        # Two uids have the same hash: their exact ranks by hash and uid take its place.
        keys = _ranks(uids, keys)
        order = stable_order(keys)
        is_same = _is_same(keys, order)
    starts = np.flatnonzero(~is_same)
    ends = np.append(starts, len(uids))[1:]
    return UidGroups(uids, values, order, starts, ends)


def distinct(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the first row of each uid; the rows have a column `uid`."""
    groups = group_uids([rows["uid"]])
    return rows.take(pa.array(np.sort(groups.order[groups.starts])))


def find_rows(
    known: pa.BinaryArray,
    known_hashes: npt.NDArray[np.uint64],
    uids: pa.BinaryArray,
    uid_hashes: npt.NDArray[np.uint64],
) -> npt.NDArray[np.int64]:
    """Return the row of each uid among distinct `known` ones; -1 for those that are not known.

    The known ones are sorted by their hashes.
    """
    if not len(known):
        return np.full(len(uids), -1, np.int64)
    places = np.searchsorted(known_hashes, uid_hashes)
    places[places == len(known)] = 0
    found = np.flatnonzero(known_hashes[places] == uid_hashes)
    if not _are_equal(known, places[found], uids, found):
        # Two uids have the same hash.
        places = pc.fill_null(pc.index_in(uids, value_set=known), -1).to_numpy()
        found = np.flatnonzero(places >= 0)
    rows = np.full(len(uids), -1, np.int64)
    rows[found] = places[found]
    return rows


def _merged_order(
    first: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64], bits: int
) -> npt.NDArray[np.int64]:
    """Return the order of sorted keys followed by others, as `stable_order` does."""
    later = stable_order(others, bits)
    places = np.searchsorted(first, others[later], side="right") + np.arange(len(others))
    order = np.empty(len(first) + len(others), np.int64)
    order[places] = later + len(first)
    is_first = np.ones(len(order), np.bool_)
    is_first[places] = False
    order[is_first] = np.arange(len(first))
    return order


def _is_same(keys: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether each row's key, in order, is that of the row before."""
    ordered = keys[order]
    is_same = np.zeros(len(keys), np.bool_)
    np.equal(ordered[1:], ordered[:-1], out=is_same[1:])
    return is_same


def _all_equal(
    uids: pa.BinaryArray, order: npt.NDArray[np.int64], is_same: npt.NDArray[np.bool_]
) -> bool:
    """Return whether each uid whose hash is that of the row before is also the same uid."""
    places = np.flatnonzero(is_same)
    return _are_equal(uids, order[places - 1], uids, order[places])


def _are_equal(
    one: pa.BinaryArray,
    rows: npt.NDArray[np.int64],
    other: pa.BinaryArray,
    other_rows: npt.NDArray[np.int64],
) -> bool:
    """Return whether the uids in these rows of two columns are the same, pair by pair."""
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        if not one.take(pa.array(rows[part])).equals(other.take(pa.array(other_rows[part]))):
            return False
    return True


def _ranks(uids: pa.BinaryArray, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the rank of each uid among the distinct ones, by hash and bytes."""
    encoded = uids.dictionary_encode()
    places: npt.NDArray[np.int32] = encoded.indices.to_numpy()
    by_uid = np.empty(len(encoded.dictionary), np.uint64)
    by_uid[places] = keys
    distinct = pa.table({"key": by_uid, "uid": encoded.dictionary})
    order = pc.sort_indices(distinct, [("key", "ascending"), ("uid", "ascending")]).to_numpy()
    ranks = np.empty(len(order), np.uint64)
    ranks[order] = np.arange(len(order), dtype=np.uint64)
    return ranks[places]
