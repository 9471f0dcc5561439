"""The one table from an answer, or an error of the client, to an outcome."""

import base64
import email.utils
import itertools
import time
from collections.abc import Iterator
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from engine.delivery.answer_reading import Answer, read_answer, retry_after
from engine.delivery.outcome import (
    Accepted,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
    may_have_been_applied,
    reason_of,
)
from engine.delivery.secrets import Secrets
from engine.errors import ExitStatus

NOW = 1_700_000_000.0
SUCCESS = {"status": "success", "message": "Your request has been accepted."}
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"


def read(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Outcome:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_answer(Answer(status, CIMultiDict(headers or {}), content), NOW).outcome


def failure(type_: str, message: str, attribute: str | None = None) -> dict[str, object]:
    error = {"type": type_, "message": message, "request_id": "UkBwaUmU"}
    return {"status": "fail", "error": error | ({"attribute": attribute} if attribute else {})}


MISMATCH = failure("Authentication required", "App Secret key mismatch.")
SUSPENDED = failure("BlockedClient", "Your account is suspended.")
OVER_SIZE = failure("Payload too large", "Payload can not exceed 128KB")
MEDIA_TYPE = failure("Unsupported media type", "Content type is not supported")
OVER_RATE = failure("Rate Limits Exceeded", "Rate limits for customers exceeded.")
SERVER_ERROR = failure("Server Error", "An unexpected error was encountered")
MALFORMED = failure("Malformed JSON", "Could not decode the request body.")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, SUCCESS, Accepted),
        (401, MISMATCH, Fatal),
        (403, SUSPENDED, Fatal),
        (413, OVER_SIZE, TooLarge),
        (415, MEDIA_TYPE, Fatal),
        (429, OVER_RATE, Throttled),
        (500, SERVER_ERROR, Unconfirmed),
    ],
)
def test_documented_answers(status, body, kind) -> None:
    outcome = read(status, body)
    assert isinstance(outcome, kind)
    assert may_have_been_applied(outcome) is (status == 500)


KNOWN = {400: Rejected, 401: Fatal, 403: Fatal, 413: TooLarge, 415: Fatal, 429: Throttled}
"""What the API documents: in its own form, nothing was applied."""
TRIED_AGAIN = {*range(100, 300), 408, 421, 425, 499, *range(500, 600)}
FOREIGN = {413: TooLarge, 429: Throttled} | dict.fromkeys(TRIED_AGAIN, Unconfirmed)
"""What is not the API's own, unless it ends the run; all of it may have been applied."""
OWN_FORM = failure("Anything", "whatever")
FOREIGN_FORMS: list[object] = [
    b"",
    HTML,
    b"[" * 5000,
    {"message": "no"},
    {"status": "fail"},
    {"status": "fail", "error": "Anything"},
    {"status": "fail", "error": ["Anything"]},
    {"status": "error", "error": {"type": "Anything", "message": "whatever"}},
    {"error": {"type": "Anything", "message": "whatever", "request_id": "1"}},
    [OWN_FORM],
    orjson.dumps(OWN_FORM)[:-1],
]


@pytest.mark.parametrize("hundreds", range(10))
def test_every_status_in_every_form(hundreds) -> None:
    for status in range(100 * hundreds, 100 * hundreds + 100):
        is_http = 100 <= status < 600
        foreign = FOREIGN.get(status, Fatal if is_http else Unconfirmed)
        own = read(status, OWN_FORM)
        assert isinstance(own, KNOWN.get(status, foreign)), status
        assert may_have_been_applied(own) is (status not in KNOWN), status
        for body in FOREIGN_FORMS:
            outcome = read(status, body)
            assert isinstance(outcome, foreign), (status, body)
            assert may_have_been_applied(outcome), (status, body)
            assert str(status) in (reason_of(outcome) or str(status))
            if isinstance(outcome, Fatal):
                assert outcome.hint
                assert outcome.exit_status is ExitStatus.REFUSED


@pytest.mark.parametrize("status", sorted({200, 500} | KNOWN.keys()))
@pytest.mark.parametrize("where", [{"is_early": True}, {"has_more": True}])
def test_an_answer_out_of_its_place_is_no_word_of_the_apis(status, where) -> None:
    body = orjson.dumps(SUCCESS if status == 200 else OWN_FORM)
    reading = read_answer(Answer(status, {}, body, **where), NOW)
    assert may_have_been_applied(reading.outcome)
    assert not isinstance(reading.outcome, Rejected | Accepted)
    assert not reading.is_regular
    if "has_more" in where:
        assert isinstance(reading.outcome, Unconfirmed)


@pytest.mark.parametrize(
    ("status", "body", "is_regular"),
    [
        (200, SUCCESS, True),
        (500, SERVER_ERROR, True),
        (429, OVER_RATE, True),
        (200, HTML, False),
        (408, HTML, False),
        (502, HTML, False),
    ],
)
def test_only_the_apis_own_answer_keeps_the_connection_open(status, body, is_regular) -> None:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    assert read_answer(Answer(status, {}, content), NOW).is_regular is is_regular


@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        orjson.dumps(SUCCESS)[:-5],
        b"\xef\xbb\xbf" + orjson.dumps(SUCCESS),
        {"status": "fail", "message": "could not be processed"},
        failure("Server Error", "?"),
        {"status": "Success"},
        {"status": ["success"]},
        {"message": "success"},
        {"error": {"status": "success"}},
        [SUCCESS],
        "success",
        None,
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_200_that_is_not_the_apis_own_success_may_have_been_applied(body) -> None:
    assert read(200, body) == Unconfirmed("200 without the API's success body")


@pytest.mark.parametrize("status", range(201, 300))
def test_no_other_2xx_is_an_acceptance(status) -> None:
    assert isinstance(read(status, SUCCESS), Unconfirmed)


@given(st.integers(100, 600), st.binary(max_size=60), st.text(max_size=20))
def test_no_answer_is_beyond_the_table(status, body, header) -> None:
    outcome = read(status, body, {"Retry-After": header, "x-ratelimit-reset": header})
    assert not isinstance(outcome, NotSent)
    assert len(reason_of(outcome) or "") <= 200


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "type", "attribute", "message", "request_id", "status"]),
            inner,
        )
    ),
)


@given(st.sampled_from([200, 400, 401, 413, 429, 500]), json_values)
def test_fields_of_any_type_are_taken(status, document) -> None:
    content = orjson.dumps({"status": "fail", "error": document})
    reading = read_answer(Answer(status, {}, content), NOW)
    assert reading.request_id is None or isinstance(reading.request_id, str)


@pytest.mark.parametrize(
    "attribute",
    ["uid", "members", "UID", "parameters.members", "parameters.members[3].uid", "members.0.uid"],
)
def test_a_400_that_names_the_members_is_theirs(attribute) -> None:
    body = failure("InvalidAttributeError", "uid is not valid", attribute)
    reason = f"400: InvalidAttributeError: {attribute}"
    detail = f"{reason}: uid is not valid"
    assert read(400, body) == Rejected(reason, names_members=True, detail=detail)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 415, 422, 500])
@pytest.mark.parametrize("attribute", ["uid", None])
def test_a_message_that_quotes_a_uid_is_no_reason(status, attribute) -> None:
    outcome = read(status, failure("InvalidAttributeError", "uid ada@x is not valid", attribute))
    assert "ada@x" not in (reason_of(outcome) or "")


def test_a_reason_holds_no_control_characters() -> None:
    assert "\x1b" not in (reason_of(read(401, failure("a\x1b[31m", "b\nc"))) or "")


@pytest.mark.parametrize(
    "body",
    [
        failure("InvalidRequestError", "The payload is not valid"),
        failure("InvalidRequestError", "?", "something_else"),
        {"status": "fail", "error": {}},
        {"status": "fail", "error": {"attribute": ["uid"]}},
    ],
)
def test_a_400_that_names_nothing_known_may_be_anyones(body) -> None:
    outcome = read(400, body)
    assert isinstance(outcome, Rejected)
    assert not outcome.names_members


@pytest.mark.parametrize(
    "attribute",
    [
        "action",
        "partner",
        "parameters",
        "cohort_id",
        "cohort_name",
        "parameters.cohort_description",
    ],
)
def test_a_400_that_names_the_request_stops_the_run(attribute) -> None:
    assert isinstance(read(400, failure("MissingAttributeError", "?", attribute)), Fatal)


def test_malformed_json_is_our_own_fault_and_stops_the_run() -> None:
    assert isinstance(read(400, MALFORMED), Fatal)


def test_the_request_id_is_kept() -> None:
    answer = Answer(500, {}, orjson.dumps(SERVER_ERROR))
    assert read_answer(answer, NOW).request_id == "UkBwaUmU"
    assert read_answer(Answer(500, {}, HTML), NOW).request_id is None


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def date_in(seconds: float) -> str:
    return email.utils.formatdate(NOW + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "7"}, 7),
        ({"Retry-After": " 7 "}, 7),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After": "99999999999"}, 99999999999),
        ({"Retry-After": date_in(30)}, 30),
        ({"Retry-After": date_in(-30)}, 0),
        # The two obsolete forms of a date; neither is local time.
        ({"Retry-After": "Tuesday, 14-Nov-23 22:13:50 GMT"}, 30),
        ({"Retry-After": "Tue Nov 14 22:13:50 2023"}, 30),
        ({"Retry-After": "-5"}, None),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"X-RateLimit-Reset": "1700000020"}, 20),
        ({"x-ratelimit-reset": "1600000000"}, 0),
        ({"x-ratelimit-reset": "soon"}, None),
        ({"Retry-After": "3", "x-ratelimit-reset": "50"}, 3),
        ({"Retry-After": "soon", "x-ratelimit-reset": "50"}, 50),
        *[
            ({"Retry-After": garbage}, None)
            for garbage in (
                "",
                "soon",
                "nan",
                "inf",
                "-inf",
                "1e999",
                "1e3",
                "1_0",
                "5 s",
                "0x10",
                "٣ days",
            )
        ],
        ({"Retry-After": "Tue, 99 Nov 2023 22:13:50 GMT"}, None),
        ({"Retry-After": "Tue, 14 Nul 2023 22:13:50 GMT"}, None),
        ({"Retry-After": "Tue, 14 Nov 99999 22:13:50 GMT"}, None),
    ],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_what_an_answer_asks_to_wait(headers, seconds) -> None:
    assert retry_after(CIMultiDict(headers), NOW) == seconds
    assert read(429, OVER_RATE, headers) == Throttled(seconds)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ \S+"))
def test_no_header_is_beyond_reading(text) -> None:
    seconds = retry_after({"Retry-After": text, "x-ratelimit-reset": text}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


def test_the_hints_are_distinguished() -> None:
    outcomes = [*(read(status, OWN_FORM) for status in (401, 403, 415, 404)), read(403, HTML)]
    assert len({outcome.hint for outcome in outcomes if isinstance(outcome, Fatal)}) == 5


API_KEY = "s3cr3t/k+y'\\1"
PAIR = f"DEMO:{API_KEY}"
ECHOES = [
    API_KEY,
    API_KEY.upper(),
    PAIR,
    f"Basic {base64.b64encode(PAIR.encode()).decode()}",
    base64.b64encode(PAIR.encode()).decode().rstrip("="),
    base64.urlsafe_b64encode(PAIR.encode()).decode(),
    base64.b64encode(API_KEY.encode()).decode(),
    quote(API_KEY, safe=""),
    quote(PAIR, safe=""),
    # Not cut off in its midst, so that a part is left.
    "x" * 190 + API_KEY,
]


@pytest.mark.parametrize("status", [*KNOWN, 200, 404, 500])
def test_credentials_that_an_answer_repeats_are_kept_nowhere(status) -> None:
    secrets = Secrets.of(("DEMO", API_KEY))
    for field, echo in itertools.product(["type", "attribute", "message", "request_id"], ECHOES):
        error = {"type": "Error", "message": "no", "request_id": "r"} | {field: f"<{echo}>"}
        content = orjson.dumps({"status": "fail", "error": error})
        answer = Answer(status, CIMultiDict({"Retry-After": echo}), content)
        kept = repr(read_answer(answer, NOW, secrets)).lower()
        for form in ECHOES:
            assert form.removeprefix("Basic ").lower().strip("x") not in kept
        for start in range(len(API_KEY) - 6):
            assert API_KEY[start : start + 6].lower() not in kept


def test_what_a_400_names_is_read_before_it_is_masked() -> None:
    body = orjson.dumps(failure("InvalidAttributeError", "?", "uid"))
    outcome = read_answer(Answer(400, {}, body), NOW, Secrets.of(("DEMO", "uid"))).outcome
    assert outcome == Rejected(
        "400: InvalidAttributeError: ***",
        names_members=True,
        detail="400: InvalidAttributeError: ***: ?",
    )


def test_without_credentials_nothing_is_masked() -> None:
    assert Secrets().mask("as it is") == Secrets.of(("user", "")).mask("as it is") == "as it is"


def test_a_request_id_is_kept_short_and_printable() -> None:
    body = failure("Error", "?") | {}
    body["error"] = {"request_id": "\x1b[31m" + "x" * 70_000}
    kept = read_answer(Answer(500, {}, orjson.dumps(body)), NOW).request_id
    assert kept == "?[31m" + "x" * 195
