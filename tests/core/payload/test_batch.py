"""Packing: every uid once and in order, no payload over the limit, none closed too early."""

import hashlib
import struct
from itertools import pairwise

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.model.cohort import Action, Cohort
from engine.payload.batch import Batch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit, refuse_narrow_limit
from engine.payload.member_json import MEMBER_BYTES, encoded
from engine.source.block import BLANK
from exports import Export, Row, exports, uids
from payloads import payload_of, uids_in

ENVELOPE = Envelope("partner", Cohort("id", "name"), Action.ADD)

limits = st.integers(len(ENVELOPE) + MEMBER_BYTES, len(ENVELOPE) + 160)
block_sizes = st.integers(1, 50)


def cut(export: Export, limit: int, block_size: int = 7) -> list[Batch]:
    return list(Cutter(ENVELOPE, Limit.of(limit)).batches(export.blocks(block_size)))


def uids_of(batch: Batch) -> list[str]:
    assert batch.uids.to_pylist() == uids_in(batch.payload)
    return uids_in(batch.payload)


@given(exports(), limits, block_sizes)
def test_every_uid_is_in_one_batch_in_the_order_of_the_export(export, limit, size) -> None:
    batches = cut(export, limit, size)
    assert [uid for batch in batches for uid in uids_of(batch)] == export.uids
    firsts = [sum(b.uid_count for b in batches[:k]) for k in range(len(batches))]
    assert [batch.first_uid for batch in batches] == firsts
    assert all(batch.uid_count == len(uids_of(batch)) > 0 for batch in batches)


@given(exports(), limits, block_sizes)
def test_only_a_uid_that_never_fits_makes_a_payload_over_the_limit(export, limit, size) -> None:
    for batch in cut(export, limit, size):
        assert len(batch.payload) <= limit or batch.uid_count == 1


@given(exports(), limits, block_sizes)
def test_a_payload_is_closed_only_when_the_next_uid_would_not_fit(export, limit, size) -> None:
    batches = cut(export, limit, size)
    for batch, following in pairwise(batches):
        [first, *_] = uids_of(following)
        assert len(payload_of(ENVELOPE, [*uids_of(batch), first])) > limit


@given(exports(), limits, block_sizes)
def test_every_record_is_counted_in_one_batch(export, limit, size) -> None:
    batches = cut(export, limit, size)
    through = 0
    for batch in batches:
        through += batch.uid_count + batch.blank + batch.invalid
        assert batch.records_through == through
    if export.uids:
        assert through == len(export.rows)
        skipped_rows = [
            (skipped.file, skipped.rows.record + n, skipped.rows.reason)
            for batch in batches
            for skipped in batch.skipped
            for n in range(skipped.rows.count)
        ]
        assert skipped_rows == export.skipped
        assert sum(b.blank for b in batches) == sum(r == BLANK for *_, r in export.skipped)


@given(exports(), limits, block_sizes)
def test_every_uid_can_be_found_in_the_export(export, limit, size) -> None:
    batches = cut(export, limit, size)
    places = [batch.place(index) for batch in batches for index in range(batch.uid_count)]
    assert places == export.places
    for batch in batches:
        with pytest.raises(IndexError):
            batch.place(batch.uid_count)


@given(exports(), limits, block_sizes)
def test_only_the_last_batch_ends_the_export(export, limit, size) -> None:
    batches = cut(export, limit, size)
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True] * bool(
        batches
    )


@given(exports(), limits, block_sizes, block_sizes)
def test_batches_do_not_depend_on_how_the_export_was_read(export, limit, size, other) -> None:
    def content(batch: Batch) -> tuple[object, ...]:
        return batch.payload, batch.digest, batch.skipped, batch.records_through, batch.is_last

    assert list(map(content, cut(export, limit, size))) == list(
        map(content, cut(export, limit, other))
    )


@given(exports(), limits)
def test_a_digest_is_of_the_lengths_and_the_bytes_of_the_uids(export, limit) -> None:
    for batch in cut(export, limit):
        texts = [uid.encode() for uid in uids_of(batch)]
        lengths = struct.pack(f"<{len(texts)}i", *map(len, texts))
        assert batch.digest == hashlib.sha256(lengths + b"".join(texts)).digest()


@given(st.lists(uids, max_size=20), st.integers(0, 5))
def test_uids_are_encoded_as_orjson_would(texts, start) -> None:
    sliced = pa.array(texts, pa.string()).slice(start)
    written = [orjson.dumps(text)[1:-1].decode() for text in texts[start:]]
    assert encoded(sliced).to_pylist() == written


def test_every_ascii_character_is_written_as_orjson_would() -> None:
    texts = [chr(code) for code in range(0x80)]
    written = [orjson.dumps(text)[1:-1].decode() for text in texts]
    assert encoded(pa.array(texts)).to_pylist() == written


@given(st.lists(uids, min_size=1, max_size=9))
def test_a_payload_is_the_documented_request_and_nothing_else(texts) -> None:
    described = Envelope("acme", Cohort("c1", "Buyers é", "who bought"), Action.REMOVE)
    export = Export([[Row(uid) for uid in texts]])
    [batch] = Cutter(described, Limit.of(128_000)).batches(export.blocks(4))
    assert orjson.loads(batch.payload) == {
        "action": "remove_members",
        "partner": "acme",
        "parameters": {
            "cohort_name": "Buyers é",
            "cohort_id": "c1",
            "cohort_description": "who bought",
            "members": [{"uid": uid} for uid in texts],
        },
    }
    assert batch.payload == orjson.dumps(orjson.loads(batch.payload))  # compact


@pytest.mark.parametrize("ends_with_one_that_never_fits", [False, True])
def test_rows_behind_the_last_uid_ride_with_the_last_batch(ends_with_one_that_never_fits) -> None:
    last = "x" * 500 if ends_with_one_that_never_fits else "last"
    tail = [Row(reason=BLANK), Row(reason="bad"), Row(reason="bad")]
    export = Export([[Row("first"), Row(last), *tail], tail])
    batches = cut(export, len(ENVELOPE) + MEMBER_BYTES + 8)
    assert [uids_of(batch) for batch in batches] == [["first"], [last]]
    assert [(b.blank, b.invalid, b.records_through) for b in batches] == [(0, 0, 1), (2, 4, 8)]
    assert batches[-1].is_last


def test_a_payload_may_be_as_large_as_the_limit_and_no_larger() -> None:
    pair = Export([[Row("aa"), Row("bb")]])
    size = len(payload_of(ENVELOPE, ["aa", "bb"]))
    assert [b.uid_count for b in cut(pair, size)] == [2]
    assert [b.uid_count for b in cut(pair, size - 1)] == [1, 1]


def test_a_lower_limit_holds_for_the_batches_to_come() -> None:
    export = Export([[Row(f"{n:04}") for n in range(100)]])
    cutter = Cutter(ENVELOPE, Limit.of(len(ENVELOPE) + 20 * (MEMBER_BYTES + 4)))
    batches = cutter.batches(export.blocks(30))
    counts = [next(batches).uid_count]
    cutter.limit.payload_bytes = len(ENVELOPE) + 10 * (MEMBER_BYTES + 4)
    counts += [batch.uid_count for batch in batches]
    assert counts == [20] + [10] * 8


def test_an_export_without_uids_has_no_batch() -> None:
    assert cut(Export([[Row(reason=BLANK)], []]), 10_000) == []


def test_a_limit_without_room_for_a_uid_is_refused() -> None:
    with pytest.raises(UsageError, match="payload_bytes = 20") as caught:
        refuse_narrow_limit(ENVELOPE, 20)
    assert caught.value.hint
