"""Sends payloads to the API over aiohttp and reads the answers."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from engine.clock import Clock
from engine.delivery.answer_reading import Answer, read_answer
from engine.delivery.connection import Reception, WatchedConnection
from engine.delivery.failure import read_failure
from engine.delivery.http import NO_LIMIT, api_headers, open_http_session, read_bounded, secrets_of
from engine.delivery.outcome import Exchange
from engine.delivery.proxy import proxy_for
from engine.delivery.settings import DeliverySettings
from engine.model.endpoint import COHORT_SYNC_PATH
from engine.model.workspace import Workspace

_ROUNDS = 2
"""Rounds of the event loop: one to poll the sockets, one to read from them."""

TakeTurn = Callable[[], Awaitable[None]]


class Sending:
    """A request until its head is sent: it takes its turn once it has a connection."""

    def __init__(
        self, take_turn: TakeTurn, deadline: asyncio.Timeout, timeout_seconds: float
    ) -> None:
        self._take_turn = take_turn
        self._deadline = deadline
        self._timeout_seconds = timeout_seconds
        self.reception = Reception()
        self.head_left = False

    async def leave(self, connection: WatchedConnection | None) -> None:
        """Take the turn; raises if the connection can't carry the request any more."""
        self.reception.connection = connection
        await self._take_turn()
        # The loop delivers bytes received in the meantime in its next rounds.
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        self.reception.refuse_unusable()
        # From now on bytes may have been sent, so the timeout for the answer starts.
        self.head_left = True
        loop = asyncio.get_running_loop()
        self._deadline.reschedule(loop.time() + self._timeout_seconds)


class Body(aiohttp.BytesPayload):
    """The body of a request, which takes its turn before the request is sent."""

    def __init__(self, content: bytes, sending: Sending) -> None:
        super().__init__(content)
        self.sending = sending

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write it; bytes that arrive from now on are the answer."""
        # aiohttp writes the head together with the body, right after this.
        self.sending.reception.begin()
        await super().write_with_length(writer, content_length)


class _Request(aiohttp.ClientRequest):
    """A request with a `Body`; aiohttp calls `send` once there is a connection."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        body, connection = cast("Body", self.body), cast("WatchedConnection", conn.protocol)
        await body.sending.leave(connection)
        return await super().send(conn)


class HttpTransport:
    """A pool of connections to one endpoint, for one workspace; an async context manager."""

    def __init__(self, workspace: Workspace, settings: DeliverySettings, clock: Clock) -> None:
        self._url = f"{workspace.endpoint.url}{COHORT_SYNC_PATH}"
        self._proxy = proxy_for(workspace.endpoint)
        self._headers = api_headers(workspace)
        self._secrets = secrets_of(workspace, self._proxy)
        self._timeout_seconds = settings.timeout_seconds
        self._clock = clock
        self._session = open_http_session(
            workspace,
            # The deadline of the exchange itself starts when the head is sent.
            aiohttp.ClientTimeout(total=None, connect=settings.timeout_seconds),
            connections=NO_LIMIT,  # Each delivery has one. A wait here would be a failure.
            request_class=_Request,
        )

    async def __aenter__(self) -> Self:
        """Return the transport; connections are opened on demand."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        """Send a payload and read the answer.

        `take_turn` is awaited once there is a connection and before the first byte is sent; its
        exceptions are passed on. Network errors are returned as outcomes, not raised.
        """
        deadline = asyncio.timeout(None)
        sending = Sending(take_turn, deadline, self._timeout_seconds)
        try:
            async with deadline:
                answer = await self._exchange(Body(payload, sending))
        except (
            aiohttp.ClientError,
            OSError,
            UnicodeError,
        ) as error:  # A TimeoutError is an OSError.
            return Exchange(read_failure(error, head_left=sending.head_left))
        reading = read_answer(answer, self._clock.stamp().utc_ns / 1e9, self._secrets)
        if not reading.is_regular:
            sending.reception.close()
        return Exchange(reading.outcome, answer.status, reading.request_id)

    async def _exchange(self, body: Body) -> Answer:
        proxy, reception = self._proxy, body.sending.reception
        async with self._session.post(
            self._url,
            data=body,
            headers=self._headers,
            proxy=proxy.url if proxy else None,
            proxy_headers=proxy.headers if proxy else None,
            allow_redirects=False,
        ) as response:
            content = await read_bounded(response)
            return Answer(
                response.status, response.headers, content, reception.is_early, reception.has_more
            )
