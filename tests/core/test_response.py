"""The one table from an answer, or an error of the client, to an outcome."""

import email.utils
import errno
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp
import aiohttp.client_exceptions
import aiohttp.http_exceptions
import orjson
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

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
from engine.delivery.response import Answer, read_answer, read_failure, retry_after

NOW = 1_700_000_000.0
SUCCESS = {"status": "success", "message": "Your request has been accepted."}
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
PASSWORD = "pr0xy-pass"


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
        *[(status, HTML, Unconfirmed) for status in (500, 502, 503, 504, 520, 599)],
        # What comes from a gateway counts by its status, whatever its body.
        (401, HTML, Fatal),
        (413, HTML, TooLarge),
        (429, HTML, Throttled),
        (429, b"", Throttled),
    ],
)
def test_documented_answers(status, body, kind) -> None:
    assert isinstance(read(status, body), kind)


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


@pytest.mark.parametrize("status", sorted({*range(300, 500)} - {400, 413, 429}))
def test_other_3xx_and_4xx_stop_the_run_and_say_what_to_do(status) -> None:
    outcome = read(status, HTML)
    assert isinstance(outcome, Fatal)
    assert str(status) in outcome.reason
    assert outcome.hint
    # A redirect may come from something behind which the request went on.
    assert may_have_been_applied(outcome) == (status < 400)


@pytest.mark.parametrize("status", [*range(100, 600), 0, 999])
def test_every_status_has_an_outcome_and_only_a_200_is_accepted(status) -> None:
    for body in (b"", SUCCESS, HTML, SERVER_ERROR):
        outcome = read(status, body)
        assert isinstance(outcome, Accepted) == (status == 200 and body is SUCCESS)
        certain = isinstance(outcome, Accepted) or 400 <= status < 500
        assert may_have_been_applied(outcome) == (not certain)


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
        {"status": "fail"},
        {"status": "fail", "error": "uid"},
        {"status": "fail", "error": {"attribute": ["uid"]}},
        HTML,
        b"",
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


KEY = ConnectionKey(
    "api.example",
    443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)
REQUEST = SimpleNamespace(real_url=f"https://user:{PASSWORD}@proxy", headers={"A": PASSWORD})
UNREACHABLE = OSError(errno.EHOSTUNREACH, "No route to host")
PLAIN = ssl.SSLError(1, f"plain {PASSWORD}")
PLAIN.reason = "WRONG_VERSION_NUMBER"
UNTRUSTED = ssl.SSLCertVerificationError(1, f"self-signed {PASSWORD}")


def made(kind: type[Exception]) -> Exception:
    """Return an error of that kind, with a password wherever aiohttp would put a URL."""
    url = f"http://user:{PASSWORD}@proxy"
    if issubclass(kind, aiohttp.client_exceptions.UnixClientConnectorError):
        return kind("/socket", KEY, UNREACHABLE)
    if issubclass(kind, aiohttp.ClientConnectorCertificateError):
        return kind(KEY, UNTRUSTED)
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(KEY, UNREACHABLE)
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(REQUEST, (), status=407, message=PASSWORD)
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"a", b"b", "host", 443)
    if issubclass(kind, aiohttp.WSMessageTypeError):
        return kind(PASSWORD)
    if issubclass(kind, OSError):
        return kind(errno.ECONNRESET, "Connection reset by peer")
    return kind(url)


KINDS = {
    kind
    for module in (aiohttp, aiohttp.client_exceptions)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, aiohttp.ClientError)
}
ERRORS = [
    *(made(kind) for kind in sorted(KINDS, key=lambda kind: kind.__name__)),
    TimeoutError(),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ssl.SSLError(1, "wrong version number"),
    UNTRUSTED,
    OSError(),
]


def test_the_walk_over_aiohttps_errors_finds_them() -> None:
    assert len(KINDS) > 25


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_before_the_head_left_sent_nothing(error) -> None:
    outcome = read_failure(error, head_left=False)
    assert isinstance(outcome, NotSent)
    assert not may_have_been_applied(outcome)
    assert outcome.reason
    assert PASSWORD not in outcome.reason


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_after_the_head_left_may_have_been_applied(error) -> None:
    outcome = read_failure(error, head_left=True)
    assert isinstance(outcome, Unconfirmed)
    assert may_have_been_applied(outcome)
    assert outcome.reason
    assert PASSWORD not in outcome.reason


@pytest.mark.parametrize(
    ("error", "nobody"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (
            aiohttp.ClientConnectorError(
                KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            ),
            True,
        ),
        # Several addresses that all refuse: the error number is theirs.
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "Multiple")), True),
        (aiohttp.ClientConnectorError(KEY, UNREACHABLE), False),
        (TimeoutError(), False),
    ],
)
def test_a_refused_connection_means_that_nobody_listens(error, nobody) -> None:
    outcome = read_failure(error, head_left=False)
    assert isinstance(outcome, NotSent)
    assert outcome.nobody_listens is nobody


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "timed out"),
        (aiohttp.ConnectionTimeoutError(), "timed out"),
        (UNTRUSTED, "not trusted"),
        (made(aiohttp.ClientConnectorCertificateError), "not trusted"),
        (made(aiohttp.ClientConnectorDNSError), "cannot be resolved"),
        (aiohttp.ServerDisconnectedError(), "closed the connection"),
        (aiohttp.ClientPayloadError(), "cut off"),
        (made(aiohttp.ClientHttpProxyError), "the proxy answered 407"),
        (made(aiohttp.ClientConnectorError), "no connection: no route to host"),
        (aiohttp.ClientConnectorSSLError(KEY, PLAIN), "TLS failed: WRONG_VERSION_NUMBER"),
    ],
)
def test_a_reason_says_what_went_wrong(error, said) -> None:
    assert said in read_failure(error, head_left=True).reason


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, 415])
def test_the_hints_are_told_apart(status) -> None:
    hints = {read(other, b"").hint for other in (401, 403, 415, 404)}
    assert read(status, b"").hint in hints
    assert len(hints) == 4
