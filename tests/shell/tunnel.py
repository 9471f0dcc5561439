"""A proxy and an API behind it, both on loopback: requests reach them as they would anywhere.

The endpoint is a host that does not exist. Nobody but the proxy, which HTTPS_PROXY names, has to
find it; the proxy leads every tunnel to the API, which has a certificate for that host from an
authority that SSL_CERT_FILE names. Nothing of the engine is replaced.
"""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "api.invalid"
SUCCESS = '{"status":"success","message":"will be processed soon"}'


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(path: Path, *, host: str = HOST, days: int = 1) -> Path:
    """Write certificate and key of `host` and 127.0.0.1 into one file, signed by itself.

    With `days` below 0 it expired so many days ago.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - dt.timedelta(days=30))
        .not_valid_after(end)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(_key(), hashes.SHA256())
    )
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + _key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def tls(path: Path) -> ssl.SSLContext:
    """Return what a server with that certificate uses."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context


@dataclass
class Api:
    """The API at the end of the tunnel."""

    status: int = 200
    body: str = SUCCESS
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request."""

    async def respond(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        await request.read()
        return web.Response(status=self.status, text=self.body, headers=self.headers)


@dataclass
class ProxyServer:
    """A proxy that keeps all that it is sent; `answer` is said instead of opening a tunnel."""

    answer: bytes | None = None
    """What it says to each CONNECT; None if it opens a tunnel."""
    passes_after: int = 0
    """How many get that answer before one is let through, if any is."""
    heads: list[bytes] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    """Every byte that clients have sent, those in tunnels included."""
    api_port: int = 0
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.received += head
            is_answered = not self.passes_after or len(self.heads) <= self.passes_after
            if self.answer is not None and is_answered:
                writer.write(self.answer)
                await writer.drain()
                writer.close()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.api_port)
            self._writers.append(far_writer)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            for source, target in ((reader, far_writer), (far_reader, writer)):
                task = asyncio.create_task(self._pipe(source, target, keeps=source is reader))
                self._pipes.add(task)
                task.add_done_callback(self._pipes.discard)

    async def _pipe(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, keeps: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                if keeps:
                    self.received += data
                target.write(data)
                await target.drain()
        target.close()

    async def close(self) -> None:
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def headers(self) -> list[dict[str, str]]:
        """Return the headers of each CONNECT."""
        lines = [head.decode().strip().split("\r\n")[1:] for head in self.heads]
        return [dict(line.split(": ", 1) for line in each) for each in lines]


@asynccontextmanager
async def tunnel(
    api: Api, proxy: ProxyServer, pem: Path, proxy_pem: Path | None = None
) -> AsyncIterator[int]:
    """Serve both, and yield the proxy's port; with `proxy_pem` the proxy is spoken to over TLS."""
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{path:.*}", api.respond)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls(pem)).start()
        proxy.api_port = runner.addresses[0][1]
        context = tls(proxy_pem) if proxy_pem else None
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context) as server:
            yield server.sockets[0].getsockname()[1]
            await proxy.close()
    finally:
        await runner.cleanup()
