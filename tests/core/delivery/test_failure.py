"""Every error of the client as an outcome, in words, and without what it may quote."""

import errno
import re
import ssl
from types import SimpleNamespace

import aiohttp
import aiohttp.client_exceptions
import pytest
from aiohttp.client_reqrep import ConnectionKey

from engine.delivery.connection import UnaskedBytesError
from engine.delivery.failure import passes_at_proxy, read_failure
from engine.delivery.outcome import Fatal, NotSent, Unconfirmed, may_have_been_applied
from engine.errors import ExitStatus

PASSWORD = "pr0xy-pass"

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
    UnicodeError(PASSWORD),
    UnaskedBytesError(PASSWORD),
]


def test_the_walk_over_aiohttps_errors_finds_them() -> None:
    assert len(KINDS) > 25


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_before_the_head_left_sent_nothing(error) -> None:
    outcome = read_failure(error, head_left=False)
    lasts = isinstance(error, ssl.SSLCertVerificationError | aiohttp.ClientResponseError)
    assert isinstance(outcome, Fatal if lasts else NotSent)
    assert not may_have_been_applied(outcome)
    assert outcome.reason
    assert PASSWORD not in repr(outcome)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_reason_is_in_words(error) -> None:
    reason = read_failure(error, head_left=True).reason
    names = {kind.__name__ for kind in type(error).__mro__}
    assert not names.intersection(re.split(r"[^A-Za-z0-9_]", reason))
    assert not re.search(r"Errno|0x|object at|Error\b", reason)


PASSES_AT_PROXY = {
    *range(100, 200),  # no answers yet; aiohttp waits for one
    *(408, 421, 425, 429, 499),
    *({*range(500, 600)} - {501, 505, 511}),
    *(0, 99, 600, 999),
}


def test_every_status_of_a_proxy() -> None:
    for status in (*range(100, 200), *range(201, 600), 0, 99, 600, 999):
        error = aiohttp.ClientHttpProxyError(REQUEST, (), status=status, message=PASSWORD)
        outcome = read_failure(error, head_left=False)
        assert passes_at_proxy(status) is (status in PASSES_AT_PROXY), status
        assert outcome.reason == f"the proxy answered {status}"
        if status in PASSES_AT_PROXY:
            assert outcome == NotSent(outcome.reason)
        else:
            assert isinstance(outcome, Fatal)
            assert outcome.exit_status is ExitStatus.USAGE
            assert outcome.hint.startswith("HTTPS_PROXY")
            assert not may_have_been_applied(outcome)


@pytest.mark.parametrize(("code", "said"), [(9, "clock"), (10, "clock"), (18, "SSL_CERT_FILE")])
def test_a_certificate_that_is_not_trusted_says_why_and_what_to_do(code, said) -> None:
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    cause.verify_code, cause.verify_message = code, "the reason of OpenSSL"
    for error in (cause, aiohttp.ClientConnectorCertificateError(KEY, cause)):
        outcome = read_failure(error, head_left=False)
        assert isinstance(outcome, Fatal)
        assert outcome.exit_status is ExitStatus.USAGE
        assert outcome.reason.endswith("not trusted: the reason of OpenSSL")
        assert said in outcome.hint


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
