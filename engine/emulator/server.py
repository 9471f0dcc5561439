"""An emulator on a socket: inside a test, or as a process of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from engine.emulator.application import Emulator
from engine.emulator.errors import EmulatorError
from engine.emulator.journal import journal_in
from engine.emulator.settings import EmulatorSettings
from engine.emulator.witness import Witness

PATH: Final = "/v1/integrations/cohortsync"

_READ_BUFFER_BYTES: Final = 262_144
"""A whole payload fits, so that reading one never pauses its connection."""
_DRAIN_SECONDS: Final = 2.0
"""How long a stop waits for answers that are on their way."""
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """An emulator that listens."""

    emulator: Emulator
    host: str
    port: int

    @property
    def url(self) -> str:
        """Scheme, host and port: what the engine calls an endpoint."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def running(settings: EmulatorSettings) -> AsyncIterator[RunningEmulator]:
    """Run an emulator for the length of the block, on the loop that is there.

    Raises `EmulatorError` when it cannot listen, or cannot write its log.
    """
    with journal_in(settings.log) as journal:
        async with _listening(Emulator(settings, journal=journal)) as listening:
            yield listening


@asynccontextmanager
async def _listening(emulator: Emulator) -> AsyncIterator[RunningEmulator]:
    settings = emulator.settings
    application = web.Application()
    application.add_routes(Witness(emulator).routes())
    application.router.add_post(PATH, emulator.cohort_sync)
    application.router.add_route("*", "/{address:.*}", emulator.not_found)

    async def close(_: web.Application) -> None:
        emulator.close()

    application.on_shutdown.append(close)
    runner = web.AppRunner(
        application,
        access_log=None,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER_BYTES,
        shutdown_timeout=_DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise EmulatorError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
                hint="pass --port 0 for any free port",
            ) from None
        host, port = runner.addresses[0][:2]
        yield RunningEmulator(emulator, host, port)
    finally:
        await runner.cleanup()


def serve(
    settings: EmulatorSettings,
    *,
    port_file: Path | None = None,
    listens: Callable[[str], None] = lambda _: None,
) -> None:
    """Run an emulator until SIGTERM or SIGINT; `listens` is called with its URL once it listens.

    `port_file` holds the port for as long as it listens. Raises `EmulatorError`.
    """
    uvloop.run(_serve(settings, port_file, listens))


async def _serve(
    settings: EmulatorSettings, port_file: Path | None, listens: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings) as listening:
        with _port_in(port_file, listening.port):
            listens(listening.url)
            await stopped.wait()


@contextmanager
def _port_in(port_file: Path | None, port: int) -> Iterator[None]:
    """Keep the port in a file, written so that a script that waits for it never reads half."""
    if port_file is None:
        yield
        return
    draft = port_file.with_name(f"{port_file.name}.{os.getpid()}")
    try:
        draft.write_text(f"{port}\n")
        draft.replace(port_file)
    except OSError as error:
        raise EmulatorError(f"{port_file}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        port_file.unlink(missing_ok=True)
