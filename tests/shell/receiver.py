"""A server on loopback that keeps what it receives, and answers as a test tells it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Receiver:
    """What was received, and what is answered."""

    url: str = ""
    status: int = 200
    seconds: float = 0.0
    """How long each answer takes."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and body of each request."""
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    async def answer(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        self.requests.append((request.method, str(request.rel_url), body))
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.seconds)  # 0, except where a test waits for less than that
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=headers)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver during the block."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


async def until(is_true: Callable[[], object]) -> None:
    """Let other tasks go on until a condition holds, which may be on the disk."""
    while not is_true():  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0)


async def time_is_up(limit: asyncio.Timeout) -> None:
    """End a limit on time, once the code works under it."""
    await until(lambda: "active" in repr(limit))
    limit.reschedule(0)
