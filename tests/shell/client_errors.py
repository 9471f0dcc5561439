"""Every error that aiohttp's client can raise, and those of the system that pass through it."""

import errno
import ssl
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey

_KEY = ConnectionKey(
    "api.invalid",
    443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)
_REQUEST = SimpleNamespace(real_url="https://api.invalid", headers={})
_NO_ROUTE = OSError(errno.EHOSTUNREACH, "No route to host")

MISTAKES_OF_CONFIGURATION = (ssl.SSLCertVerificationError, aiohttp.ClientResponseError)
"""What no other try mends, before a request has left."""

_ARGUMENTS: tuple[tuple[type[Exception], tuple[Any, ...]], ...] = (
    (UnixClientConnectorError, ("/socket", _KEY, _NO_ROUTE)),
    (aiohttp.ClientConnectorCertificateError, (_KEY, ssl.SSLCertVerificationError(1, "why"))),
    (aiohttp.ClientConnectorError, (_KEY, _NO_ROUTE)),
    (aiohttp.ClientResponseError, (_REQUEST, ())),
    (aiohttp.ServerFingerprintMismatch, (b"a", b"b", "api.invalid", 443)),
    (OSError, (errno.ECONNRESET, "Connection reset by peer")),
    (Exception, ("why",)),
)
"""What it takes to make an error: the first base that it has."""


def _made(kind: type[Exception]) -> Exception:
    [arguments, *_] = [given for base, given in _ARGUMENTS if issubclass(kind, base)]
    named = {"status": 407} if issubclass(kind, aiohttp.ClientResponseError) else {}
    return kind(*arguments, **named)


def _kinds(base: type[Exception]) -> set[type[Exception]]:
    return {base}.union(*map(_kinds, base.__subclasses__()))


CLIENT_ERRORS: dict[str, Callable[[], Exception]] = {
    kind.__name__: partial(_made, kind)
    for kind in sorted(_kinds(aiohttp.ClientError), key=lambda kind: kind.__name__)
    if kind.__module__.startswith("aiohttp.")
}
"""By name, what makes one."""

SYSTEM_ERRORS: dict[str, Callable[[], Exception]] = {
    "ECONNRESET": partial(ConnectionResetError, errno.ECONNRESET, "Connection reset by peer"),
    "EPIPE": partial(BrokenPipeError, errno.EPIPE, "Broken pipe"),
    "ECONNREFUSED": partial(ConnectionRefusedError, errno.ECONNREFUSED, "Connection refused"),
    "SSLError": partial(ssl.SSLError, 1, "wrong version number"),
    "TimeoutError": TimeoutError,
    "OSError": OSError,
}
