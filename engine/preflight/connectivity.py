"""Tests the connectivity to the endpoint in steps: name, connection, TLS and, optionally, the key.

A step returns a sentence. It raises `StepNotNeeded` if there is nothing to test, and `ConfigError`,
`IncompleteError` or `RefusedError` if it failed, as a run's first request would.
"""

import asyncio
import os
import socket
import ssl
from http import HTTPStatus

import orjson

from engine.clock import SystemClock
from engine.delivery.failure import TIMED_OUT, certificate_hint
from engine.delivery.outcome import (
    Exchange,
    Fatal,
    Throttled,
    Unconfirmed,
    may_have_been_applied,
    reason_of,
)
from engine.delivery.proxy import proxy_for
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import HttpTransport
from engine.errors import ConfigError, ExitStatus, IncompleteError, RefusedError
from engine.model.workspace import Workspace


class StepNotNeeded(Exception):  # noqa: N818 - it means that a step is not needed, not an error
    """Raised if a step has nothing to test, which is not a failure."""


class Connectivity:
    """Tests each step of a connection to a workspace's endpoint, each for at most `seconds`.

    Proxies are read from the environment (HTTPS_PROXY, NO_PROXY and so on); loopback uses none.
    """

    def __init__(self, workspace: Workspace, seconds: float) -> None:
        self._workspace = workspace
        self._endpoint = workspace.endpoint
        self._seconds = seconds

    async def resolve(self) -> str:
        """Resolve the host's name."""
        if self._endpoint.address is not None:
            raise StepNotNeeded(f"{self._endpoint.host} is an address already")
        if proxy_for(self._endpoint):
            raise StepNotNeeded("left to the proxy")
        host, port = self._endpoint.host, self._endpoint.port
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._seconds):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise IncompleteError(
                f"{host} has no address: {_reason(error, self._seconds)}",
                hint="check that the network is up and the name is right",
            ) from None
        return f"{host} is {', '.join(sorted({str(each[4][0]) for each in found}))}"

    async def connect(self) -> str:
        """Open a connection, to the proxy if there is one, and close it."""
        if proxy := proxy_for(self._endpoint):
            await self._open(proxy.host, proxy.port)
            return f"via proxy {proxy.host}:{proxy.port}, which accepts connections"
        await self._open(self._endpoint.host, self._endpoint.port)
        return f"{self._endpoint.label} accepts connections"

    async def negotiate_tls(self) -> str:
        """Set up TLS, verify the certificate, and close the connection."""
        if self._endpoint.scheme == "http":
            raise StepNotNeeded("http on loopback is not encrypted")
        if proxy_for(self._endpoint):
            raise StepNotNeeded("not tried via proxy; --live does")
        context = ssl.create_default_context()
        await self._open(self._endpoint.host, self._endpoint.port, context)
        return "the certificate is valid"

    async def try_key(self) -> str:
        """Send a request without members: the API answers 400 if it accepts the key."""
        workspace = self._workspace
        request = {
            "action": "add_members",
            "partner": workspace.partner,
            "parameters": {"cohort_id": "cohortsync-check", "cohort_name": "cohortsync check"},
        }
        settings = DeliverySettings(max_in_flight=1, timeout_seconds=self._seconds)
        async with HttpTransport(workspace, settings, SystemClock()) as transport:
            exchange = await transport.send(orjson.dumps(request), _at_once)
        return self._key_status(exchange)

    def _key_status(self, exchange: Exchange) -> str:
        """Return what the answer indicates about the key; raises an error if the key is refused."""
        status, outcome = exchange.http_status, exchange.outcome
        if isinstance(outcome, Fatal) and outcome.exit_status is ExitStatus.USAGE:
            raise ConfigError(f"{self._endpoint.label}: {outcome.reason}", hint=outcome.hint)
        if status is None:
            reason = reason_of(outcome) or "no answer"
            if reason == TIMED_OUT:
                reason = f"no answer within {self._seconds:g} s"
            raise IncompleteError(f"{self._endpoint.label}: {reason}", hint=self._network_hint())
        is_the_apis = not may_have_been_applied(outcome)
        if status == HTTPStatus.BAD_REQUEST and is_the_apis:
            return "the key is valid: a request without members was refused with 400, not 401"
        if status == HTTPStatus.UNAUTHORIZED and is_the_apis:
            source = self._workspace.require_key().source
            raise RefusedError(
                f"the API answers 401: the key from {source} is not valid for this workspace",
                hint="compare workspace id, Data API key and data center with the dashboard",
            )
        if status == HTTPStatus.FORBIDDEN and is_the_apis:
            raise RefusedError(
                "the API answers 403: the account is blocked or suspended",
                hint="ask MoEngage's support",
            )
        unsaid = f"the answer is {status}, which says nothing about the key"
        is_a_page = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        if isinstance(outcome, Throttled | Unconfirmed) and not is_a_page:
            raise IncompleteError(unsaid, hint="try again in a minute")
        hint = (
            outcome.hint if isinstance(outcome, Fatal) else "see whether the endpoint is the API's"
        )
        raise RefusedError(unsaid, hint=hint)

    async def _open(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
                # An orderly TLS shutdown would wait for the server.
                writer.transport.abort()
                await writer.wait_closed()
        except OSError as error:
            message = f"{host}:{port}: {_reason(error, self._seconds)}"
            if isinstance(error, ssl.SSLCertVerificationError):
                raise ConfigError(message, hint=certificate_hint(error)) from None
            raise IncompleteError(message, hint=self._network_hint()) from None

    def _network_hint(self) -> str:
        if self._endpoint.is_loopback:
            return "`cohortsync emulator` starts an emulator on this machine"
        return "check whether a firewall blocks it, or a proxy is needed (HTTPS_PROXY)"


async def _at_once() -> None:
    """Return at once: the caller has already waited for its turn."""


def _reason(error: OSError | UnicodeError, seconds: float) -> str:
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
        case OSError():  # several addresses, each with a different reason
            return "none of its addresses accepts connections"
        case _:
            return "the name is malformed"
