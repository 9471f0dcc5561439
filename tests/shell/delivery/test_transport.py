"""One payload to a real server on loopback and back, through all that a network can do."""

import asyncio
import gc
import gzip
import socket
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from loopback_server import PAYLOAD, SUCCESS, Server, answer, at_once, serving, transport_to

from engine import __version__
from engine.delivery.http import LONGEST_ANSWER
from engine.delivery.outcome import Accepted, Exchange, Fatal, NotSent, Throttled, Unconfirmed
from engine.errors import StateFullError


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


async def send(port: int, timeout_seconds: float = 30) -> Exchange:
    async with transport_to(port, timeout_seconds) as transport:
        return await transport.send(PAYLOAD, at_once)


async def test_a_request_has_exactly_the_documented_headers(server: Server) -> None:
    exchange = await send(server.port)
    assert exchange == Exchange(Accepted(), 200)
    [(first, headers, body)] = server.requests
    assert first == "POST /v1/integrations/cohortsync HTTP/1.1"
    assert body == PAYLOAD
    encodings = headers.pop("Accept-Encoding")
    assert "gzip" in encodings
    assert headers == {
        "Host": f"127.0.0.1:{server.port}",
        "Authorization": "Basic V1M6czNjcjN0",  # WS:s3cr3t
        "MOE-APPKEY": "WS",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": f"cohortsync/{__version__}",
        "Content-Length": str(len(PAYLOAD)),
    }


async def test_the_turn_is_taken_when_the_connection_stands_and_nothing_has_left(
    server: Server,
) -> None:
    async def take_turn() -> None:
        await server.connected.wait()
        await asyncio.sleep(0.05)
        assert server.received == b""

    async with transport_to(server.port) as transport:
        assert (await transport.send(PAYLOAD, take_turn)).outcome == Accepted()
        # So too on a connection that stands already.
        server.received.clear()
        assert (await transport.send(PAYLOAD, take_turn)).outcome == Accepted()
    assert server.connections == 1


async def test_one_turn_is_taken_for_each_request(server: Server) -> None:
    turns = 0

    async def take_turn() -> None:
        nonlocal turns
        turns += 1

    async with transport_to(server.port) as transport:
        await asyncio.gather(*(transport.send(PAYLOAD, take_turn) for _ in range(20)))
    assert turns == len(server.requests) == 20


async def test_a_request_that_has_ended_keeps_nothing_until_the_next_collection(
    server: Server,
) -> None:
    """At the ceiling, collections are minutes apart; payloads would fill the memory."""

    class Owner:
        async def take_turn(self) -> None:
            pass

    async with transport_to(server.port) as transport:
        for _ in range(2):  # On a new connection, then on one that stands already.
            owner = Owner()
            is_kept = weakref.ref(owner)
            gc.disable()
            try:
                await asyncio.create_task(transport.send(PAYLOAD, owner.take_turn))
                del owner
                await asyncio.sleep(0)
                assert is_kept() is None
            finally:
                gc.enable()


async def test_requests_that_wait_for_their_turns_keep_no_other_from_a_connection(
    server: Server,
) -> None:
    """As many runs may wait together as there are; each has `max_in_flight` of its own."""
    end = asyncio.Event()

    async def take_turn() -> None:
        await end.wait()

    async with transport_to(server.port, timeout_seconds=2) as transport:
        waiting = [asyncio.create_task(transport.send(PAYLOAD, take_turn)) for _ in range(9)]
        async with asyncio.timeout(10):
            while server.connections < len(waiting):
                server.connected.clear()
                await server.connected.wait()
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
        end.set()
        assert {(await each).outcome for each in waiting} == {Accepted()}


@pytest.mark.parametrize("error", [StateFullError("full"), asyncio.CancelledError(), ValueError()])
async def test_what_the_turn_raises_comes_through_and_nothing_leaves(
    server: Server, error: BaseException
) -> None:
    async def take_turn() -> None:
        raise error

    async with transport_to(server.port) as transport:
        with pytest.raises(type(error)) as caught:
            await transport.send(PAYLOAD, take_turn)
        assert caught.value is error
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
    assert len(server.requests) == 1


async def test_a_wait_for_the_turn_is_no_part_of_the_timeout(server: Server) -> None:
    async def take_turn() -> None:
        await asyncio.sleep(0.6)

    async with transport_to(server.port, timeout_seconds=0.3) as transport:
        assert (await transport.send(PAYLOAD, take_turn)).outcome == Accepted()


@pytest.mark.parametrize(
    "parts",
    [
        [3600.0],
        [b"HTTP/1.1 200 OK\r\n", 3600.0],
        [answer()[:-5], 3600.0],
        [answer(b"x" * 1000)[:-900], *[b"x", 0.05] * 400],  # slow, and never done in time
    ],
    ids=["nothing", "half a head", "half a body", "a trickle"],
)
async def test_an_answer_that_does_not_end_in_time_may_have_been_applied(
    server: Server, parts: list[bytes | float]
) -> None:
    server.gives(*parts)
    assert await send(server.port, timeout_seconds=0.3) == Exchange(Unconfirmed("timed out"))


async def test_a_connection_that_is_refused_shows_that_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def never() -> None:
        pytest.fail("there is no connection to take a turn for")

    async with transport_to(port) as transport:
        exchange = await transport.send(PAYLOAD, never)
    assert isinstance(exchange.outcome, NotSent)
    assert exchange.outcome.nobody_listens
    assert exchange.http_status is None


async def test_a_connection_that_does_not_come_about_in_time_sent_nothing() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        # A queue of one, which these two fill: the kernel lets the next one wait.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)  # noqa: FBT003 - that is its signature
            filler.connect_ex(full.getsockname())
        exchange = await send(full.getsockname()[1], timeout_seconds=0.3)
    assert exchange == Exchange(NotSent("timed out"))


def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_reset_before_the_request_was_read_may_have_been_applied(server: Server) -> None:
    server.greet = hang_up
    assert isinstance((await send(server.port)).outcome, Unconfirmed | NotSent)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"", "server closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "server closed the connection"),
        (answer()[:-1], "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "cut off"),
    ],
)
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_connection_lost_after_the_head_may_have_been_applied(
    server: Server, given: bytes, reason: str, *, abruptly: bool
) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(given)
        await writer.drain()
        if abruptly:
            await asyncio.sleep(0.05)  # so that what was given is read before
            hang_up(writer)
        writer.close()

    server.respond = respond
    outcome = (await send(server.port)).outcome
    assert isinstance(outcome, Unconfirmed)
    assert abruptly or reason in outcome.reason


@pytest.mark.parametrize(
    "given",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + SUCCESS,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + SUCCESS,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        answer(b"not gzip", "200 OK", "Content-Encoding: gzip"),
        answer(gzip.compress(SUCCESS, mtime=0)[:-20], "200 OK", "Content-Encoding: gzip"),
        answer(b"\xff" * 50, "200 OK", "Content-Encoding: br"),
        answer(b"\xff\xfe", "200 OK", "Content-Type: text/html; charset=nonsense"),
        answer(b"", "204 No Content"),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_no_answer_is_a_surprise(server: Server, given: bytes) -> None:
    server.gives(given, then_close=True)
    assert isinstance((await send(server.port)).outcome, Unconfirmed)


async def test_an_answer_is_unpacked(server: Server) -> None:
    server.gives(answer(gzip.compress(SUCCESS, mtime=0), "200 OK", "Content-Encoding: gzip"))
    assert (await send(server.port)).outcome == Accepted()


@pytest.mark.parametrize("packed", [False, True])
async def test_no_more_of_an_answer_is_read_than_it_takes(server: Server, *, packed: bool) -> None:
    success = SUCCESS[:-1] + b',"more":"' + b"x" * 40 * LONGEST_ANSWER + b'"}'
    if packed:
        server.gives(answer(gzip.compress(success, mtime=0), "200 OK", "Content-Encoding: gzip"))
    else:
        server.gives(answer(success))
    async with transport_to(server.port) as transport:
        exchange = await transport.send(PAYLOAD, at_once)
        assert isinstance(exchange.outcome, Unconfirmed)
        assert exchange.http_status == 200
        # What was left of it is not taken for the answer to the next request.
        server.gives(answer())
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
    assert server.connections == 2


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_no_redirect_is_followed(server: Server, status: str) -> None:
    server.gives(answer(b"", status, f"Location: http://127.0.0.1:{server.port}/elsewhere"))
    exchange = await send(server.port)
    assert isinstance(exchange.outcome, Fatal)
    assert len(server.requests) == 1


async def test_an_answer_is_read_with_its_headers_and_request_id(server: Server) -> None:
    body = orjson.dumps({"status": "fail", "error": {"request_id": "Uk", "message": "slow down"}})
    server.gives(answer(body, "429 Too Many Requests", "retry-after: 7"))
    assert await send(server.port) == Exchange(Throttled(7.0), 429, "Uk")


async def test_no_cookie_is_kept_and_no_credential_found_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.gives(answer(SUCCESS, "200 OK", "Set-Cookie: session=1; Path=/"))
    async with transport_to(server.port) as transport:
        for _ in range(2):
            assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
    for _, headers, _ in server.requests:
        assert "Cookie" not in headers
        assert headers["Authorization"] == "Basic V1M6czNjcjN0"


async def test_a_connection_closed_between_requests_is_replaced(server: Server) -> None:
    async with transport_to(server.port) as transport:
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
        server.writers[0].close()
        await asyncio.sleep(0.05)
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
    assert server.connections == 2


async def test_a_request_can_be_cancelled_at_any_point(server: Server) -> None:
    server.gives(3600.0)
    async with transport_to(server.port) as transport:
        sending = asyncio.create_task(transport.send(PAYLOAD, at_once))
        await server.arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.gives(answer())
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
