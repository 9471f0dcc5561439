"""Maps the HTTP client's errors to outcomes, with a reason and a hint."""

import os
import ssl

import aiohttp

from engine.delivery.connection import UnaskedBytesError
from engine.delivery.outcome import Fatal, NotSent, Unconfirmed
from engine.errors import ExitStatus

TIMED_OUT = "timed out"

CERTIFICATE_HINT = (
    "SSL_CERT_FILE names the CA bundle where a company or its proxy has its own; never turn the "
    "check off"
)
_CLOCK_HINT = "see whether this machine's clock is right; if it is, the server's owner must act"
_EXPIRED = frozenset({9, 10})
"""OpenSSL's error numbers for a certificate that is not valid yet or has expired."""

_PASSES_AT_PROXY = frozenset({408, 421, 425, 429, 499})
_LASTS_AT_PROXY = frozenset({501, 505, 511})
"""5xx that a retry does not change: CONNECT or version not supported, login required."""
_PROXY_HINTS = {
    407: "set user and password in it, as in http://user:password@proxy:3128, with `@` as %40; the "
    "proxy has to take basic authentication",
    403: "its owner has to let the API's host pass; NO_PROXY names hosts that need no proxy",
}
_PROXY_HINT = "see whether it names a proxy that takes CONNECT to the API's host"


def read_failure(error: BaseException, *, head_left: bool) -> NotSent | Unconfirmed | Fatal:
    """Return the outcome for a client error; before the head is sent, nothing can be applied.

    An error that a retry can't resolve ends the run as a configuration error: a proxy that requires
    another password, or a certificate that this machine does not trust.
    """
    reason = describe(error)
    if head_left:
        return Unconfirmed(reason)
    hint = _remedy(error)
    if hint is not None:
        return Fatal(reason, hint, exit_status=ExitStatus.USAGE)
    cause = getattr(error, "os_error", error)
    return NotSent(reason, nobody_listens=isinstance(cause, ConnectionRefusedError))


def passes_at_proxy(status: int) -> bool:
    """Return whether a later CONNECT may succeed after a proxy answered with `status`."""
    if status in _PASSES_AT_PROXY:
        return True
    # What is no HTTP status says nothing; a 1xx is no answer yet.
    return not 200 <= status < 500 and status not in _LASTS_AT_PROXY  # noqa: PLR2004 - classes of statuses


def certificate_hint(error: BaseException) -> str:
    """Say what to do about a certificate that is not trusted."""
    code = getattr(getattr(error, "certificate_error", error), "verify_code", None)
    return _CLOCK_HINT if code in _EXPIRED else CERTIFICATE_HINT


def _remedy(error: BaseException) -> str | None:
    """Return a hint for the user; None if a retry may succeed."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return certificate_hint(error)
        case aiohttp.ClientHttpProxyError(status=status) if not passes_at_proxy(status):
            return f"HTTPS_PROXY: {_PROXY_HINTS.get(status, _PROXY_HINT)}"
        case aiohttp.ClientHttpProxyError():
            return None
        case aiohttp.ClientResponseError():
            # Before a request is sent, only a proxy can answer.
            return f"HTTPS_PROXY: {_PROXY_HINT}"
        case _:
            return None


def describe(error: BaseException) -> str:
    """Describe an error without its own text, which may quote a proxy's password."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            return f"the certificate of {error.host} is not trusted{_why(cause)}"
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted{_why(error)}"
        case aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason=reason)) if reason:
            return f"TLS failed: {reason}"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} cannot be resolved"
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy answered {status}"
        case aiohttp.ClientProxyConnectionError(os_error=cause):
            return f"no connection to the proxy {error.host}:{error.port}{_system(cause)}"
        case aiohttp.ClientConnectorError(os_error=cause) if not isinstance(cause, ssl.SSLError):
            return f"no connection{_system(cause)}"
    kind, words = next((kind, words) for kind, words in _WORDS if isinstance(error, kind))
    return f"{words}{_system(error)}" if kind is OSError else words


_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (UnaskedBytesError, "the server sent something before the request"),
    (TimeoutError, TIMED_OUT),
    (ssl.SSLError, "TLS failed"),
    (aiohttp.ClientSSLError, "TLS failed"),
    (UnicodeError, "the host's name cannot be resolved"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientPayloadError, "the answer was cut off"),
    (aiohttp.ClientResponseError, "the answer is not HTTP"),
    (OSError, "the connection broke"),
    (BaseException, "the connection failed"),
)
"""The first matching type applies."""


def _why(error: object) -> str:
    message = getattr(error, "verify_message", None)
    return f": {message}" if message else ""


def _system(error: object) -> str:
    number = getattr(error, "errno", None)
    return f": {os.strerror(number).lower()}" if isinstance(number, int) and number > 0 else ""
