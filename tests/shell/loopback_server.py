"""A real server on loopback that answers as it is told, and the transport to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from engine.clock import SystemClock
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import HttpTransport
from engine.model.endpoint import Endpoint
from engine.model.workspace import ApiKey, Workspace

PAYLOAD = b'{"action":"add_members"}'
SUCCESS = b'{"status":"success","message":"accepted"}'
KEY = "s3cr3t"


def answer(body: bytes = SUCCESS, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """A socket that shows all that arrives, and answers each request by `respond`."""

    def __init__(self) -> None:
        self.connections = 0
        self.connected = asyncio.Event()
        self.arrived = asyncio.Event()
        self.received = bytearray()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.respond: Callable[[asyncio.StreamWriter], Awaitable[None]] = self.accept
        self.greet: Callable[[asyncio.StreamWriter], None] = lambda _: None
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def accept(self, writer: asyncio.StreamWriter) -> None:
        writer.write(answer())

    def gives(self, *parts: bytes | float, then_close: bool = False) -> None:
        """Answer with these bytes from now on; a number is a pause in seconds."""

        async def respond(writer: asyncio.StreamWriter) -> None:
            for part in parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await asyncio.sleep(part)
            if then_close:
                writer.close()

        self.respond = respond

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        self.connected.set()
        self.greet(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.received += head
                first, *lines = head.decode().strip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["Content-Length"]))
                self.requests.append((first, headers, body))
                self.arrived.set()
                await self.respond(writer)
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Start a server; its connections end with it."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def transport_to(port: int, timeout_seconds: float = 30) -> AsyncIterator[HttpTransport]:
    endpoint = Endpoint.parse(f"http://127.0.0.1:{port}")
    workspace = Workspace("WS", ApiKey(KEY, "test"), endpoint, "partner")
    settings = DeliverySettings(max_in_flight=4, timeout_seconds=timeout_seconds)
    async with HttpTransport(workspace, settings, SystemClock()) as transport:
        yield transport


async def at_once() -> None:
    """Take a turn without a wait."""
