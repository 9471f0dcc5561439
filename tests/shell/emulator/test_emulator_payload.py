"""Bodies as the emulator judges them: the schema as a table, and the fast way against the full."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulator.answers import Refusal
from engine.emulator.payload import Action, Payload, parse_payload, read_payload

Body = dict[str, Any]
GONE = object()


def body(members: object = None, **changes: object) -> Body:
    """Make a valid body, with parameters changed; GONE leaves one out."""
    parameters = {
        "cohort_name": "Lapsed",
        "cohort_id": "lapsed-30",
        "cohort_description": "no order for 30 days",
        "members": [{"uid": "007"}, {"uid": "1e5"}] if members is None else members,
        **changes,
    }
    kept = {name: value for name, value in parameters.items() if value is not GONE}
    return {"action": "add_members", "partner": "partner", "parameters": kept}


def compact(value: object, *, ascii_only: bool = False) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode()


def judged(content: bytes) -> Payload | Refusal:
    """Judge both ways, which must agree on everything but how the members are kept."""
    fast, full = read_payload(content), parse_payload(content)
    if isinstance(fast, Refusal) or isinstance(full, Refusal):
        assert fast == full
        return fast
    assert fast.uids() == full.uids()
    assert fast.count == full.count == len(full.uids())
    for name in ("action", "partner", "cohort_id", "cohort_name", "description"):
        assert getattr(fast, name) == getattr(full, name)
    return fast


def test_a_body_is_read_whole() -> None:
    payload = judged(compact(body()))
    assert isinstance(payload, Payload)
    assert (payload.action, payload.partner) == (Action.ADD, "partner")
    assert (payload.cohort_id, payload.cohort_name) == ("lapsed-30", "Lapsed")
    assert payload.description == "no order for 30 days"
    assert (payload.count, payload.uids()) == (2, ["007", "1e5"])


def test_a_compact_body_is_judged_without_an_object_for_each_uid() -> None:
    payload = read_payload(compact(body([{"uid": "a"}, {"uid": "é"}, {"uid": "𝄞"}])))
    assert isinstance(payload, Payload)
    assert payload.members == 'a"},{"uid":"é"},{"uid":"𝄞'.encode()


@pytest.mark.parametrize(
    ("wrong", "attribute"),
    [
        ({}, "action"),
        ({"action": "add_members"}, "partner"),
        ({"action": "add_members", "partner": "p"}, "parameters"),
        (body() | {"action": "replace_members"}, "action"),
        (body() | {"action": ["add_members"]}, "action"),
        (body() | {"partner": 7}, "partner"),
        (body() | {"partner": ""}, "partner"),
        (body() | {"parameters": []}, "parameters"),
        (body(cohort_name=GONE), "cohort_name"),
        (body(cohort_name=None), "cohort_name"),
        (body(cohort_name=""), "cohort_name"),
        (body(cohort_id=GONE), "cohort_id"),
        (body(cohort_id=7), "cohort_id"),
        (body(cohort_description=7), "cohort_description"),
        (body(members=GONE), "members"),
        (body(members={}), "members"),
        (body(members=["a"]), "members"),
        (body(members=[{"uid": "a"}, {}]), "uid"),
        (body(members=[{"uid": 7}]), "uid"),
        (body(members=[{"uid": "a"}, {"uid": None}]), "uid"),
        (body(members=[{"uid": ""}]), "uid"),
        (body(members=[{"uid": "a"}, {"uid": ""}, {"uid": "b"}]), "uid"),
        *((body(cohort_name=f"a{character}b"), "cohort_name") for character in '|*?\\:<>=$"'),
    ],
)
def test_a_field_at_fault_is_named(wrong: Body, attribute: str) -> None:
    refusal = judged(compact(wrong))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.attribute) == (400, attribute)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        compact(body())[:-1],
        compact(body()) + b"}",
        compact(body([{"uid": "aXq"}])).replace(b"X", b"\xff"),
        compact(body([{"uid": "aXq"}])).replace(b"X", b"\n"),
        compact(body([{"uid": "aXq"}])).replace(b"X", b'"'),
        compact(body([{"uid": "aXq"}])).replace(b"X", b"\\"),
        compact(body([{"uid": "aXq"}])).replace(b"X", b"\xed\xa0\x80"),
        compact(body([{"uid": "aXq"}])).replace(b"X", b"\\ud800"),
    ],
)
def test_what_is_not_a_json_object_is_malformed_and_names_no_field(content: bytes) -> None:
    refusal = judged(content)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.type, refusal.attribute) == (400, "Malformed JSON", None)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(body()).encode(),
        compact(body([{"uid": "a", "more": 1}])),
        compact(body(more=[{"uid": "z"}])),
        compact(body([])),
        compact(body() | {"more": {"members": [{"uid": "z"}]}}),
        compact({"members": [{"uid": "z"}]} | body()),
        compact({"more": {"members": []}} | body()),
        compact({"more": '"members":[{"uid":"'} | body()),
        compact(body(cohort_description='"members":[{"uid":"')),
        compact(body(cohort_description="")),
        compact({"parameters": {"members": [{"uid": "z"}]}})[:-1] + b"," + compact(body())[1:],
    ],
)
def test_other_shapes_of_a_valid_body_are_read_alike(content: bytes) -> None:
    payload = judged(content)
    assert isinstance(payload, Payload)
    assert set(payload.uids()) <= {"007", "1e5", "a"}


def test_members_in_the_wrong_place_are_not_the_cohort_s() -> None:
    misplaced = body(members=GONE) | {"more": {"members": [{"uid": "z"}]}}
    refusal = judged(compact(misplaced))
    assert isinstance(refusal, Refusal)
    assert refusal.attribute == "members"


uids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6)


@given(uids=uids, ascii_only=st.booleans())
def test_uids_survive_byte_for_byte(*, uids: list[str], ascii_only: bool) -> None:
    content = compact(body([{"uid": uid} for uid in uids]), ascii_only=ascii_only)
    payload = judged(content)
    assert isinstance(payload, Payload)
    assert payload.uids() == uids


@given(
    uids,
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 12),
            st.sampled_from(
                [b"", b'"', b"\\", b",", b"{", b"}", b'"uid":', b'"},{"uid":"', b"\xc3"]
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_both_ways_judge_a_damaged_body_alike(
    uids: list[str], damages: list[tuple[int, int, bytes]]
) -> None:
    content = compact(body([{"uid": uid} for uid in ["first", *uids]]))
    for place, length, instead in damages:
        start = place % (len(content) + 1)
        content = content[:start] + instead + content[start + length :]
    judged(content)
