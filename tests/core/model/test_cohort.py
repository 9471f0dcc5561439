"""The API's nouns: what a cohort may be called, and what a request looks like."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.model.cohort import RESTRICTED_NAME_CHARACTERS, Action, Cohort
from engine.payload.envelope import Envelope
from payloads import payload_of, uids_in

names = st.text(
    st.characters(
        codec="utf-8",
        exclude_characters=RESTRICTED_NAME_CHARACTERS,
        exclude_categories=["Cc", "Cs"],
    ),
    min_size=1,
).filter(str.strip)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))


@pytest.mark.parametrize("character", '|*?\\:<>=$"')
def test_a_name_with_a_character_that_the_api_refuses_is_refused(character) -> None:
    with pytest.raises(UsageError) as caught:
        Cohort("id", f"Buyers {character} all")
    assert character in caught.value.message
    assert caught.value.hint


@given(names)
def test_every_other_name_is_fine(name) -> None:
    assert Cohort("id", name).name == name


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        (("", "name"), "--cohort-id"),
        ((" \t", "name"), "--cohort-id"),
        (("id", ""), "--cohort-name"),
        (("id", " "), "--cohort-name"),
        (("id\udcff", "name"), "--cohort-id"),
        (("id", "name\ud800"), "--cohort-name"),
        (("id", "name", "description\udfff"), "--cohort-description"),
        (("id\n", "name"), "--cohort-id holds a control character"),
        (("id", "na\x1b[2Jme"), "--cohort-name holds a control character"),
        (("id", "name", "\x7f"), "--cohort-description holds a control character"),
        (("id", "name", "a\x9bm"), "--cohort-description holds a control character"),
    ],
)
def test_an_empty_or_unprintable_field_is_refused_by_its_flag(fields, flag) -> None:
    with pytest.raises(UsageError, match=flag) as caught:
        Cohort(*fields)
    caught.value.message.encode()  # it can be printed


def test_the_id_may_hold_what_the_name_may_not() -> None:
    assert Cohort("a:b|c", "name").id == "a:b|c"


def test_a_leading_period_is_doubtful_but_allowed() -> None:
    assert "period" in (Cohort("id", ".hidden").warning or "")
    assert Cohort("id", "not.hidden").warning is None


@pytest.mark.parametrize(
    ("action", "word"), [(Action.ADD, "add_members"), (Action.REMOVE, "remove_members")]
)
def test_actions_have_their_word_on_the_wire(action, word) -> None:
    payload = Envelope("partner", Cohort("id", "name"), action).enclose(b"")
    assert orjson.loads(payload)["action"] == word


@given(names, st.none() | texts, st.lists(names))
def test_an_envelope_gives_back_the_uids_that_it_encloses(name, description, uids) -> None:
    envelope = Envelope(name, Cohort("id", name, description), Action.ADD)
    payload = payload_of(envelope, uids)
    assert uids_in(payload) == uids
    parameters = orjson.loads(payload)["parameters"]
    assert parameters.get("cohort_description") == description
    assert ("cohort_description" in parameters) == (description is not None)
    assert len(envelope) == len(envelope.enclose(b""))
