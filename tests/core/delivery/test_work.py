"""A batch comes apart and back together without losing a uid or its place."""

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.delivery.intake import Intake
from engine.delivery.work import Work, divide, reopen
from engine.ledger.records import OpenBatch
from engine.model.cohort import Action, Cohort
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.source.block import BLANK
from exports import Export, Row, exports, plain_uids
from payloads import payload_of, uids_in

ENVELOPE = Envelope("partner", Cohort("id", "name"), Action.ADD)


def work_of(export: Export, *, number: int = 1) -> Work:
    """Put all of an export into one batch."""
    [batch] = Cutter(ENVELOPE, Limit.of(128_000)).batches(export.blocks(3))
    return Work(number, batch, 0, batch.uid_count, batch.payload)


def uids_of(work: Work) -> list[str]:
    assert work.uids.to_pylist() == uids_in(work.payload)
    return uids_in(work.payload)


def by_orjson(uids: list[str]) -> bytes:
    """Return the payload as orjson writes it from plain objects."""
    members = [{"uid": uid} for uid in uids]
    parameters = {"cohort_name": "name", "cohort_id": "id", "members": members}
    request = {"action": "add_members", "partner": "partner", "parameters": parameters}
    return orjson.dumps(request)


@given(exports(), st.booleans())
def test_halves_down_to_single_uids_hold_every_uid_in_its_place(export, isolated) -> None:
    assume(export.uids)
    whole = work_of(export)
    parts, numbers = [whole], {whole.number}
    while divisible := [work for work in parts if work.uid_count > 1]:
        work = divisible[0]
        halves, division = divide(work, max(numbers) + 1, isolated=isolated, reason="too large")
        assert [uid for half in halves for uid in uids_of(half)] == uids_of(work)
        assert [half.payload for half in halves] == [by_orjson(uids_of(half)) for half in halves]
        assert abs(halves[0].uid_count - halves[1].uid_count) <= 1
        assert all(half.isolated == isolated for half in halves)
        for half, part in zip(halves, division.parts, strict=True):
            assert (part.number, part.uid_count) == (half.number, half.uid_count)
            assert part.first_uid == whole.root.first_uid + half.offset
            assert part.payload_bytes == len(half.payload)
            assert part.number not in numbers
            numbers.add(part.number)
        at = parts.index(work)
        parts[at : at + 1] = halves
    assert [uid for work in parts for uid in uids_of(work)] == export.uids
    rejections = [work.rejection(work.place, "why", "id") for work in parts]
    assert [(r.file, r.record) for r in rejections] == export.places
    assert [r.uid for r in rejections] == export.uids


def test_halves_of_a_search_belong_to_it_whatever_splits_them() -> None:
    whole = work_of(Export([[Row("a"), Row("b"), Row("c"), Row("d")]]))
    (half, _), _ = divide(whole, 2, isolated=True, reason="400")
    (quarter, _), _ = divide(half, 4, isolated=False, reason="413")
    assert quarter.isolated


@given(exports(plain_uids), st.data())
def test_what_was_left_open_is_found_again(export, data) -> None:
    assume(export.uids)
    batch = work_of(export).root
    start = data.draw(st.integers(0, batch.uid_count - 1))
    count = data.draw(st.integers(1, batch.uid_count - start))
    left = OpenBatch(
        number=9, first_uid=batch.first_uid + start, uid_count=count, attempts=3, isolated=True
    )
    work = reopen(batch, left)
    assert uids_of(work) == export.uids[start : start + count]
    assert (work.number, work.offset, work.uid_count) == (9, start, count)
    assert (work.attempts, work.failures, work.isolated) == (3, 0, True)
    for single in range(count):
        assert work.root.place(work.offset + single) == export.places[start + single]


def test_a_registration_describes_the_batch() -> None:
    rows = [Row(reason=BLANK), Row("a"), Row(reason="bad"), Row("b"), Row(reason=BLANK)]
    entry = work_of(Export([rows]), number=7).registration
    assert (entry.number, entry.first_uid, entry.uid_count) == (7, 0, 2)
    assert (entry.blank, entry.invalid, entry.records_through) == (2, 1, 5)
    assert entry.is_last
    assert entry.payload_bytes == len(payload_of(ENVELOPE, ["a", "b"]))


def test_a_413_lowers_the_limit_to_what_the_halves_take() -> None:
    limit = Limit.of(1000)
    intake = Intake(1, (), limit)
    intake.lower_limit(990, 520)
    assert limit.payload_bytes == 520
    intake.lower_limit(980, 515)  # one that was under way already
    assert limit.payload_bytes == 515
    intake.lower_limit(510, 300)
    assert limit.payload_bytes == 300
    intake.lower_limit(980, 515)
    assert limit.payload_bytes == 300


def test_a_413_never_lowers_the_limit_below_what_was_accepted() -> None:
    limit = Limit.of(1000)
    intake = Intake(1, (), limit)
    intake.note_accepted(700)
    intake.note_accepted(100)
    for size in (50, 699, 700):
        intake.lower_limit(size, size // 2)
        assert limit.payload_bytes == 1000
    intake.lower_limit(990, 520)
    assert limit.payload_bytes == 700


def test_a_single_uid_is_tried_up_to_the_limit_that_was_configured() -> None:
    single = work_of(Export([[Row("x" * 100)]]))
    pair = work_of(Export([[Row("x" * 50), Row("y" * 50)]]))
    limit = Limit.of(len(pair.payload))
    intake = Intake(1, (), limit)
    assert not intake.is_too_large(pair)
    intake.lower_limit(len(pair.payload), 10)
    assert intake.is_too_large(pair)
    assert not intake.is_too_large(single)
    too_small = len(single.payload) - 1
    assert Intake(1, (), Limit.of(too_small)).is_too_large(single)


def test_each_new_batch_is_registered_in_order_until_it_is_on_the_disk() -> None:
    export = Export([[Row(f"u{number}") for number in range(9)]])
    batches = Cutter(ENVELOPE, Limit.of(len(ENVELOPE) + 50)).batches(export.blocks(4))
    intake = Intake(7, (), Limit.of(1000))
    works = [work for batch in batches for work in intake.works_of(batch)]
    assert [work.number for work in works] == list(range(7, 7 + len(works)))
    entries = intake.registrations()
    assert [entry.number for entry in entries] == [w.number for w in works]
    # What is not known to be on the disk is returned again, or what follows would leave a gap.
    assert intake.registrations() == entries
    intake.note_registered(entries[:1])
    assert intake.registrations() == entries[1:]
    intake.note_registered(entries)
    assert intake.registrations() == []
    assert intake.next_number == 7 + len(works)
