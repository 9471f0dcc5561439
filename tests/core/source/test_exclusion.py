"""Uids that are left out of an export: found exactly, and each record counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EmptyExportError, SourceError, UsageError
from engine.source import exclusion as exclusion_module
from engine.source.block import BLANK, EXCLUDED, Block, Skipped
from engine.source.exclusion import ExcludingSource, Exclusion, Hashes, excluded_blocks, hashes_of
from exports import Export, exports, plain_uids, uids

LISTED = st.lists(plain_uids | uids, max_size=20)
EITHER = plain_uids | uids


def blocks_of(listed: Sequence[str], size: int = 3) -> list[Block]:
    padded = pa.array(["before", *listed, "behind"], pa.string())
    return [
        Block("list", start + 1, len(part), part, ())
        for start in range(0, len(listed), size)
        for part in [padded.slice(start + 1, min(size, len(listed) - start))]
    ]


@dataclass
class Given:
    """A source of given blocks."""

    given: Sequence[Block]
    identity: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def blocks(self) -> Sequence[Block]:
        return self.given


def poor_hashes(uids_: pa.StringArray) -> Hashes:
    return np.array([len(uid) % 3 for uid in uids_.to_pylist()], np.uint64)


Hash = Callable[[pa.StringArray], Hashes]
HASHES: st.SearchStrategy[Hash] = st.sampled_from([hashes_of, poor_hashes])


@given(exports(EITHER), LISTED, st.integers(1, 5), HASHES)
def test_each_record_is_kept_skipped_or_excluded(
    export: Export, listed: list[str], size: int, hashes: Hash
) -> None:
    some = listed + export.uids[::3]
    with patch.object(exclusion_module, "hashes_of", hashes):
        source = ExcludingSource(
            Given(export.blocks(size), {"a": 1}), Exclusion(blocks_of(some)), {"b": 2}
        )
        assert source.identity == {"a": 1, "exclude": {"b": 2}}
        kept: list[Block] = []
        try:
            kept.extend(source.blocks())
        except EmptyExportError:
            assert set(export.uids) <= set(some)
        expected = [uid for uid in export.uids if uid not in some]
        assert [uid for block in kept for uid in block.uids.to_pylist()] == expected
        assert source.uids_read == len(expected)
    found: dict[tuple[str, int], str] = {}
    for block in kept:
        assert block.records == len(block.uids) + sum(each.count for each in block.skipped)
        for each in block.skipped:
            for record in range(each.record, each.record + each.count):
                found[block.file, record] = each.reason
    excluded = {
        place: EXCLUDED
        for place, uid in zip(export.places, export.uids, strict=True)
        if uid in some
    }
    skipped = {(file, record): reason for file, record, reason in export.skipped}
    assert found == excluded | skipped


@given(LISTED, st.randoms(use_true_random=False))
def test_a_digest_depends_on_the_uids_and_not_on_their_order(
    listed: list[str], random: Random
) -> None:
    digest = Exclusion(blocks_of(listed)).digest
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert Exclusion(blocks_of(shuffled, 2)).digest == digest
    assert Exclusion(blocks_of([*listed, "another one"])).digest != digest


@given(st.lists(EITHER))
def test_a_hash_depends_on_the_uid_alone(listed: list[str]) -> None:
    one_by_one = [hashes_of(pa.array([uid]))[0] for uid in listed]
    with patch.object(exclusion_module, "_HASHED_BYTES", 7):
        for block in blocks_of(listed, len(listed) or 1):
            assert hashes_of(block.uids).tolist() == one_by_one
    assert len(set(one_by_one)) == len(set(listed))


def test_hashes_stay_the_same_in_every_version() -> None:
    assert hashes_of(pa.array(["", "a", "user-1", "ü"])).tolist() == [
        0,
        98,
        17748275054920211375,
        14912788301776526405,
    ]


def test_a_list_too_large_for_memory_is_refused() -> None:
    assert Exclusion(blocks_of("abc"), most_uids=3).uids == 3
    with pytest.raises(UsageError, match=r"^more than 3 uids") as caught:
        Exclusion(blocks_of("abcd"), most_uids=3)
    assert "a mirror takes lists of any size" in (caught.value.hint or "")


def test_an_invalid_record_of_a_list_is_an_error_and_a_blank_one_is_not() -> None:
    text = pa.array(["a"], pa.string())
    blank = Block("list", 1, 3, text, (Skipped(2, 2, BLANK),))
    assert list(excluded_blocks(Given([blank], {}))) == [blank]
    invalid = Block("list", 4, 2, text, (Skipped(5, 1, "invalid UTF-8"),))
    with pytest.raises(SourceError, match=r"^list, record 5: invalid UTF-8; the list must"):
        list(excluded_blocks(Given([blank, invalid], {})))
