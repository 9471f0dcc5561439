"""The way to the endpoint, tried step by step: name, connection, encryption and, if asked, key.

A step returns what it found in words, raises `Inapplicable` where there is nothing to try, and
`IncompleteError` or `RefusedError` where it failed.
"""

import asyncio
import os
import socket
import ssl
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from engine.endpoint import COHORT_SYNC_PATH
from engine.errors import IncompleteError, RefusedError
from engine.session import open_session, proxy_for, read_bounded
from engine.workspace import Workspace

_PROXY_PORTS = {"http": 80, "https": 443}


class Inapplicable(Exception):  # noqa: N818 - it says that a step is not needed, not that it failed
    """There is nothing to try in this step, and no harm in that."""


class Reach:
    """Steps towards a workspace's endpoint, each bounded by `seconds`.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY and so on); loopback needs none.
    """

    def __init__(self, workspace: Workspace, seconds: float) -> None:
        self._workspace = workspace
        self._endpoint = workspace.endpoint
        self._seconds = seconds

    async def resolve(self) -> str:
        """Look the host's name up."""
        if self._endpoint.address is not None:
            raise Inapplicable(f"{self._endpoint.host} is an address already")
        if proxy_for(self._endpoint):
            raise Inapplicable("left to the proxy")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._seconds):
                found = await loop.getaddrinfo(
                    self._endpoint.host, self._endpoint.port, type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError) as error:
            raise IncompleteError(
                f"{self._endpoint.host} has no address: {_reason(error, self._seconds)}",
                hint="see whether the network is up and the name is right",
            ) from None
        return f"{self._endpoint.host} is {', '.join(sorted({str(each[4][0]) for each in found}))}"

    async def connect(self) -> str:
        """Open a connection, to the proxy where there is one, and close it."""
        if proxy := proxy_for(self._endpoint):
            parts = urlsplit(proxy)
            host, port = parts.hostname or "", parts.port or _PROXY_PORTS[parts.scheme]
            await self._open(host, port)
            return f"via proxy {host}:{port}, which takes connections"
        await self._open(self._endpoint.host, self._endpoint.port)
        return f"{self._endpoint.label} takes connections"

    async def shake_hands(self) -> str:
        """Set up TLS, the certificate verified, and close the connection."""
        if self._endpoint.scheme == "http":
            raise Inapplicable("http on loopback is not encrypted")
        if proxy_for(self._endpoint):
            raise Inapplicable("not tried via proxy; --live does")
        context = ssl.create_default_context()
        await self._open(self._endpoint.host, self._endpoint.port, context)
        return "the certificate is valid"

    async def try_key(self) -> str:
        """Send a request without members: an API that lets the key in finds that, and says 400."""
        workspace = self._workspace
        request = {
            "action": "add_members",
            "partner": workspace.partner,
            "parameters": {"cohort_id": "cohortsync-check", "cohort_name": "cohortsync check"},
        }
        session = open_session(workspace, aiohttp.ClientTimeout(total=self._seconds))
        post = session.post(
            self._endpoint.url + COHORT_SYNC_PATH,
            data=orjson.dumps(request),
            proxy=proxy_for(self._endpoint),
            allow_redirects=False,
        )
        try:
            async with session, post as response:
                answer = await read_bounded(response)
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(self._endpoint.label, error) from None
        return read_verdict(response.status, answer)

    async def _open(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
                # A polite end of TLS would wait for the other side's.
                writer.transport.abort()
                await writer.wait_closed()
        except OSError as error:
            raise self._unreachable(f"{host}:{port}", error) from None

    def _unreachable(self, place: str, error: Exception) -> IncompleteError:
        if isinstance(error, ssl.SSLError):
            hint = "SSL_CERT_FILE names the CA bundle where a company has its own"
        elif self._endpoint.is_loopback:
            hint = "`cohortsync emulator` starts an emulator on this machine"
        else:
            hint = "see whether a firewall stands between, or a proxy is needed (HTTPS_PROXY)"
        return IncompleteError(f"{place}: {_reason(error, self._seconds)}", hint=hint)


def read_verdict(status: int, body: bytes) -> str:
    """Read an answer to the request without members as a verdict on the key.

    Returns the words for a good key; raises `RefusedError` where the API refuses the key or is not
    the API, and `IncompleteError` where it does not get as far as to say.
    """
    if status == HTTPStatus.BAD_REQUEST and _is_refusal(body):
        return "the key is good: a request without members got past it, and was refused with 400"
    if status == HTTPStatus.UNAUTHORIZED:
        raise RefusedError(
            "the API answers 401: the key is not good for this workspace",
            hint="compare workspace id, Data API key and data center with the dashboard",
        )
    if status == HTTPStatus.FORBIDDEN:
        raise RefusedError(
            "the API answers 403: the account is blocked or suspended",
            hint="ask MoEngage's support",
        )
    unsaid = f"the answer is {status}, which says nothing about the key"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise IncompleteError(unsaid, hint="try again in a minute")
    raise RefusedError(unsaid, hint="see whether the endpoint is the API's")


def _is_refusal(body: bytes) -> bool:
    """Say whether a body is the API's own way to refuse, and not a gateway's."""
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), dict)


def _reason(error: Exception, seconds: float) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {seconds:g} s"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case socket.gaierror():
            return str(error.strerror)
        case OSError(errno=int(number)):
            return os.strerror(number)
        case OSError():  # several addresses, each with a reason of its own
            return "none of its addresses takes connections"
        case _:
            return type(error).__name__
