"""Cutting again what the ledger knows: the same batches, or a clear no."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.errors import ExportChangedError
from engine.model.cohort import Action, Cohort
from engine.payload.batch import Batch, KnownBatch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.payload.member_json import MEMBER_BYTES
from engine.source.block import BLANK
from exports import Export, Row, exports, plain_uids
from payloads import uids_in

ENVELOPE = Envelope("partner", Cohort("id", "name"), Action.ADD)

limits = st.integers(len(ENVELOPE) + MEMBER_BYTES, len(ENVELOPE) + 160)
block_sizes = st.integers(1, 50)
flags = st.integers(0)  # bit n is whether batch n is open


def cut(export: Export, limit: int, known: list[KnownBatch] = (), size: int = 7) -> list[Batch]:
    return list(Cutter(ENVELOPE, Limit.of(limit), known).batches(export.blocks(size)))


def know(batches: list[Batch], is_open: int = -1) -> list[KnownBatch]:
    return [
        KnownBatch(
            number=number,
            uid_count=batch.uid_count,
            records_through=batch.records_through,
            digest=batch.digest,
            is_last=batch.is_last,
            is_open=bool(is_open >> number & 1),
        )
        for number, batch in enumerate(batches, 1)
    ]


def uids_of(batches: list[Batch]) -> list[str]:
    return [uid for batch in batches for uid in uids_in(batch.payload)]


def truncated(export: Export, count: int) -> Export:
    """Return the rows before the uid that comes after `count` others."""
    places = [*export.places, (f"file-{len(export.files)}", 1)]
    file, record = places[count]
    number = int(file.removeprefix("file-"))
    return Export(
        [*export.files[:number], *(rows[: record - 1] for rows in export.files[number:][:1])]
    )


@given(exports(), st.tuples(limits, limits), block_sizes, flags, st.data())
def test_open_batches_come_back_and_packing_goes_on_after_the_last(
    export, before_and_now, size, is_open, data
) -> None:
    limit, other_limit = before_and_now
    first = cut(export, limit)
    known = know(first[: data.draw(st.integers(0, len(first)))], is_open)
    again = cut(export, other_limit, known, size)

    reopened = [batch for batch in again if batch.number is not None]
    expected = [replace(first[k.number - 1], number=k.number) for k in known if k.is_open]
    assert [b.number for b in reopened] == [b.number for b in expected]
    for batch, before in zip(reopened, expected, strict=True):
        assert batch.payload == before.payload
        assert batch.uids == before.uids
        assert batch.digest == before.digest
        assert batch.first_uid == before.first_uid
        assert batch.skipped == before.skipped
        assert batch.is_last == before.is_last
        places = [batch.place(index) for index in range(batch.uid_count)]
        assert places == [before.place(index) for index in range(before.uid_count)]

    fresh = again[len(reopened) :]
    assert uids_of(fresh) == uids_of(first[len(known) :])
    through = known[-1].records_through if known else 0
    for batch in fresh:
        through += batch.uid_count + batch.blank + batch.invalid
        assert batch.records_through == through
    if export.uids:
        assert through == len(export.rows)


@given(exports(plain_uids), limits, flags, st.data())
def test_a_uid_that_changed_is_noticed(export, limit, is_open, data) -> None:
    assume(export.uids)
    first = cut(export, limit)
    index = data.draw(st.integers(0, len(export.uids) - 1))
    file, record = export.places[index]
    files = [list(rows) for rows in export.files]
    files[int(file.removeprefix("file-"))][record - 1] = Row("~" * len(export.uids[index]))
    with pytest.raises(ExportChangedError) as caught:
        cut(Export(files), limit, know(first, is_open))
    assert caught.value.hint
    assert export.uids[index] not in caught.value.message.replace("batch", "").split()


@given(exports(plain_uids), limits, flags, st.data())
def test_an_end_that_is_missing_is_noticed(export, limit, is_open, data) -> None:
    assume(export.uids)
    first = cut(export, limit)
    known = know(first[: data.draw(st.integers(1, len(first)))], is_open)
    # What is left ends with the last known uid or before; the first cut saw one behind it.
    kept = sum(k.uid_count for k in known) - (known[-1].is_last or data.draw(st.booleans()))
    with pytest.raises(ExportChangedError):
        cut(truncated(export, kept), limit, known)


@given(exports(plain_uids), limits, flags, block_sizes)
def test_an_end_that_grew_is_noticed(export, limit, is_open, size) -> None:
    assume(export.uids)
    known = know(cut(export, limit), is_open)
    with pytest.raises(ExportChangedError):
        cut(Export([*export.files, [Row(reason=BLANK), Row("more")]]), limit, known, size)


@given(exports(plain_uids), limits, flags, st.data())
def test_rows_that_came_or_went_among_known_uids_are_noticed(export, limit, is_open, data) -> None:
    assume(export.uids)
    first = cut(export, limit)
    file, record = data.draw(st.sampled_from(export.places))
    files = [list(rows) for rows in export.files]
    files[int(file.removeprefix("file-"))].insert(record - 1, Row(reason=BLANK))
    # Otherwise the rows read would outnumber those in the ledger, and the run would not balance.
    with pytest.raises(ExportChangedError):
        cut(Export(files), limit, know(first, is_open))


def test_known_batches_keep_their_count_whatever_the_limit() -> None:
    export = Export([[Row(f"{n:02}") for n in range(12)]])
    wide = len(ENVELOPE) + 5 * (MEMBER_BYTES + 2)
    narrow = len(ENVELOPE) + 2 * (MEMBER_BYTES + 2)
    known = know(cut(export, wide)[:2])
    assert [b.uid_count for b in cut(export, narrow, known)] == [5, 5, 2]
    known = know(cut(export, narrow)[:2])
    assert [b.uid_count for b in cut(export, wide, known)] == [2, 2, 5, 3]


def test_an_export_that_holds_nothing_any_more_is_noticed() -> None:
    known = know(cut(Export([[Row("a"), Row("b")]]), len(ENVELOPE) + MEMBER_BYTES + 1))
    for count in (1, 2):
        with pytest.raises(ExportChangedError):
            cut(Export([[Row(reason=BLANK)]]), 10_000, known[:count])
