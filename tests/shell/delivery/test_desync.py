"""Answers that nobody asked for, that come too early or with more behind them: none is taken."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from tunnel import certificate, tls

from engine.clock import SystemClock
from engine.delivery.outcome import (
    Accepted,
    Exchange,
    Fatal,
    NotSent,
    Outcome,
    Throttled,
    TooLarge,
    Unconfirmed,
    may_have_been_applied,
)
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import HttpTransport
from engine.model.endpoint import Endpoint
from engine.model.workspace import ApiKey, Workspace

SUCCESS = b'{"status":"success","message":"accepted"}'
LARGE = b"x" * 128_000
SMALL_WINDOW = 4096


def answer(body: bytes = SUCCESS, status: int = 200, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def refusal(status: int) -> bytes:
    error = {"type": "Error", "message": "no", "request_id": "r"}
    return answer(orjson.dumps({"status": "fail", "error": error}), status)


@dataclass
class Connection:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)

    async def read_head(self) -> int:
        """Return the length of the body that follows."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.received += head
        [length] = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ]
        return length

    async def read_request(self) -> bytes:
        body = await self.reader.readexactly(await self.read_head())
        self.received += body
        return body


@dataclass
class Server:
    """Deals with each connection by `handle`, which may do as it likes."""

    handle: Callable[[Connection], Awaitable[None]]
    connections: list[Connection] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    scheme: str = "http"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self.connections.append(connection)
        self.connected.set()
        with suppress(OSError, asyncio.IncompleteReadError):
            await self.handle(connection)


@asynccontextmanager
async def serving(
    handle: Callable[[Connection], Awaitable[None]], pem: Path | None = None
) -> AsyncIterator[Server]:
    """Serve on loopback; over TLS with that certificate."""
    server = Server(handle, scheme="https" if pem else "http")
    listening = socket.socket()
    # What it does not read, the client's system has to keep.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
    listening.bind(("127.0.0.1", 0))
    context = tls(pem) if pem else None
    listener = await asyncio.start_server(server.serve, sock=listening, ssl=context)
    server.port = listening.getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def transport_to(server: Server) -> AsyncIterator[HttpTransport]:
    endpoint = Endpoint.parse(f"{server.scheme}://127.0.0.1:{server.port}")
    workspace = Workspace("WS", ApiKey("s3cr3t", "test"), endpoint, "partner")
    settings = DeliverySettings(max_in_flight=4, timeout_seconds=10)
    async with HttpTransport(workspace, settings, SystemClock()) as transport:
        yield transport


async def at_once() -> None:
    """Take a turn without a wait."""


def send(transport: HttpTransport, payload: bytes = b"{}") -> Awaitable[Exchange]:
    return transport.send(payload, at_once)


UNASKED = {
    "an answer": answer(),
    "an answer in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a refusal": refusal(401),
    "a page": answer(b"<html>", 502),
    "two answers": answer() * 2,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": answer()[:-9],
    "an answer of one byte": b"H",
    "a line end": b"\r\n",
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "no HTTP": b"\x00\x01garbage\r\n\r\n",
    "many bytes": b"x" * 300_000,
}


@pytest.mark.parametrize("unasked", UNASKED)
async def test_what_arrives_on_an_idle_connection_is_no_answer_to_the_next_request(
    unasked: str,
) -> None:
    is_idle, is_closed = asyncio.Event(), asyncio.Event()

    async def handle(connection: Connection) -> None:
        is_first = len(server.connections) == 1
        await connection.read_request()
        connection.writer.write(answer() if is_first else refusal(500))
        if is_first:
            await is_idle.wait()
            connection.writer.write(UNASKED[unasked])
            with suppress(OSError):
                await connection.reader.read()
            is_closed.set()

    async with serving(handle) as server, transport_to(server) as transport:
        assert (await send(transport)).outcome == Accepted()
        is_idle.set()
        await asyncio.wait_for(is_closed.wait(), 5)
        exchange = await send(transport)
        assert exchange.outcome == Unconfirmed("500: Error")
        assert len(server.connections) == 2


@pytest.mark.parametrize(
    "more", [each for each in UNASKED if each not in {"a line end", "an interim answer"}]
)
async def test_an_answer_with_more_behind_it_may_be_another_requests(more: str) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        is_first = len(server.connections) == 1
        connection.writer.write(answer() + (UNASKED[more] if is_first else b""))
        await connection.reader.read()

    async with serving(handle) as server, transport_to(server) as transport:
        exchange = await send(transport)
        assert isinstance(exchange.outcome, Unconfirmed)
        assert (await send(transport)).outcome == Accepted()
        assert len(server.connections) == 2


@pytest.mark.parametrize("unasked", UNASKED)
async def test_a_server_that_speaks_first_is_sent_nothing(unasked: str) -> None:
    async def handle(connection: Connection) -> None:
        connection.writer.write(UNASKED[unasked])
        with suppress(asyncio.IncompleteReadError):
            await connection.read_request()

    async with serving(handle) as server, transport_to(server) as transport:

        async def take_turn() -> None:
            await server.connected.wait()
            await asyncio.sleep(0.02)

        exchange = await transport.send(b"{}", take_turn)
        assert exchange == Exchange(NotSent("the server sent something before the request"))
        await asyncio.sleep(0.01)
        assert not server.connections[0].received


async def test_what_arrives_as_the_turn_comes_is_seen_before_the_request_leaves() -> None:
    async def handle(connection: Connection) -> None:
        for _ in range(2):
            await connection.read_request()
            connection.writer.write(answer())

    async with serving(handle) as server, transport_to(server) as transport:
        assert (await send(transport)).outcome == Accepted()

        async def take_turn() -> None:
            server.connections[0].writer.write(answer())

        received = len(server.connections[0].received)
        exchange = await transport.send(b"{}", take_turn)
        assert isinstance(exchange.outcome, NotSent)
        await asyncio.sleep(0.01)
        assert len(server.connections[0].received) == received
        assert (await send(transport)).outcome == Accepted()


EARLY: dict[str, tuple[bytes, type[Outcome]]] = {
    "200": (answer(), Unconfirmed),
    "400": (refusal(400), Fatal),
    "401": (refusal(401), Fatal),
    "413": (refusal(413), TooLarge),
    "429": (refusal(429), Throttled),
    "500": (refusal(500), Unconfirmed),
}


@pytest.mark.parametrize("early", EARLY)
async def test_an_answer_before_the_request_was_received_is_no_acceptance_and_no_proof(
    early: str,
) -> None:
    given, kind = EARLY[early]

    async def handle(connection: Connection) -> None:
        length = await connection.read_head()
        if len(server.connections) > 1:
            await connection.reader.readexactly(length)
            connection.writer.write(answer())
            return
        connection.writer.write(given)
        await asyncio.sleep(5)

    async with serving(handle) as server, transport_to(server) as transport:
        exchange = await send(transport, LARGE)
        assert isinstance(exchange.outcome, kind)
        assert may_have_been_applied(exchange.outcome)
        assert (await send(transport, LARGE)).outcome == Accepted()
        assert len(server.connections) == 2


async def test_an_interim_answer_before_the_request_was_received_is_none() -> None:
    async def handle(connection: Connection) -> None:
        length = await connection.read_head()
        connection.writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await connection.reader.readexactly(length)
        connection.writer.write(answer())

    async with serving(handle) as server, transport_to(server) as transport:
        assert (await send(transport, LARGE)).outcome == Accepted()


@pytest.mark.parametrize("given", [answer(b"<html>", 502), answer(b"", 408), answer(b"", 421)])
async def test_a_connection_with_an_answer_that_is_not_the_apis_is_not_used_again(
    given: bytes,
) -> None:
    async def handle(connection: Connection) -> None:
        given_now = given if len(server.connections) == 1 else answer()
        while True:
            await connection.read_request()
            connection.writer.write(given_now)

    async with serving(handle) as server, transport_to(server) as transport:
        assert isinstance((await send(transport)).outcome, Unconfirmed)
        assert (await send(transport)).outcome == Accepted()
        assert (await send(transport)).outcome == Accepted()
        assert len(server.connections) == 2


async def test_after_anything_unasked_a_connection_carries_one_request_only() -> None:
    async def handle(connection: Connection) -> None:
        while True:
            await connection.read_request()
            is_first = len(server.connections) == 1
            connection.writer.write(answer() * 2 if is_first else answer())

    async with serving(handle) as server, transport_to(server) as transport:
        assert isinstance((await send(transport)).outcome, Unconfirmed)
        for _ in range(3):
            assert (await send(transport)).outcome == Accepted()
        assert len(server.connections) == 4


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_408_before_an_idle_connection_is_closed_is_no_cause_for_distrust(
    version: str,
) -> None:
    async def handle(connection: Connection) -> None:
        while True:
            await connection.read_request()
            connection.writer.write(answer())
            if len(server.connections) == 1:
                await asyncio.sleep(0.01)
                connection.writer.write(f"HTTP/{version} 408 Request Time-out\r\n\r\n".encode())
                connection.writer.close()

    async with serving(handle) as server, transport_to(server) as transport:
        assert (await send(transport)).outcome == Accepted()
        await asyncio.sleep(0.05)
        for _ in range(3):
            assert (await send(transport)).outcome == Accepted()
        assert len(server.connections) == 2


@pytest.mark.parametrize("place", ["idle", "early", "behind", "first"])
async def test_over_tls_no_answer_is_taken_out_of_its_place_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pem = certificate(tmp_path / "api.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))

    async def handle(connection: Connection) -> None:
        if len(server.connections) > 1:
            await connection.read_request()
            connection.writer.write(answer())
            return
        if place == "first":
            connection.writer.write(answer())
        length = await connection.read_head()
        if place != "early":
            await connection.reader.readexactly(length)
        connection.writer.write(answer() * (2 if place == "behind" else 1))
        if place == "idle":
            await asyncio.sleep(0.01)
            connection.writer.write(answer())
        await asyncio.sleep(5)

    async def take_turn() -> None:
        await asyncio.sleep(0.05)

    async with serving(handle, pem) as server, transport_to(server) as transport:
        first = (await transport.send(LARGE, take_turn)).outcome
        kinds = {"idle": Accepted, "early": Unconfirmed, "behind": Unconfirmed, "first": NotSent}
        assert isinstance(first, kinds[place])
        await take_turn()
        assert (await send(transport, LARGE)).outcome == Accepted()
        assert len(server.connections) == 2


async def test_no_uid_is_lost_to_a_server_that_answers_each_request_twice() -> None:
    applied: list[bytes] = []

    async def handle(connection: Connection) -> None:
        is_first = True
        while True:
            body = await connection.read_request()
            await asyncio.sleep(0.002)
            if is_first:
                applied.append(body)
                connection.writer.write(answer())
                await asyncio.sleep(0.002)
                connection.writer.write(answer())  # The answer to nothing.
            else:
                connection.writer.write(refusal(500))
            is_first = False

    async with serving(handle) as server, transport_to(server) as transport:

        async def deliver(payload: bytes) -> None:
            while (await send(transport, payload)).outcome != Accepted():
                pass
            await asyncio.sleep(0.01)

        wanted = [b"%d" % number for number in range(60)]
        for first in range(0, len(wanted), 3):
            await asyncio.gather(*map(deliver, wanted[first : first + 3]))
    assert set(applied) == set(wanted)
