"""Runs an emulator on a socket, inside a test or as a separate process."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from tempfile import mkstemp
from types import FrameType
from typing import Final, TextIO

import uvloop
from aiohttp import web

from engine.emulator.application import Emulator
from engine.emulator.errors import EmulatorError
from engine.emulator.journal import journal_in
from engine.emulator.settings import EmulatorSettings
from engine.emulator.witness import Witness

PATH: Final = "/v1/integrations/cohortsync"

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end an emulator, including the end of its terminal."""

_READ_BUFFER_BYTES: Final = 262_144
"""Large enough for a whole payload, so that reading one never pauses its connection."""
_DRAIN_SECONDS: Final = 2.0
"""How long a stop waits for answers in progress."""
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """An emulator that listens."""

    emulator: Emulator
    host: str
    port: int

    @property
    def url(self) -> str:
        """Scheme, host and port: an endpoint in the engine's terms."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def running(settings: EmulatorSettings) -> AsyncIterator[RunningEmulator]:
    """Run an emulator during the block, on the running event loop.

    Raises `EmulatorError` if it cannot listen or cannot write its log.
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
    application.router.add_route("*", PATH, emulator.wrong_method)
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
                f"cannot listen on {settings.host}:{settings.port}: {_words_for(error)}",
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
    """Run an emulator until a signal of `STOPS`; call `listens` with its URL when it listens.

    `port_file` contains the port while it listens. Raises `EmulatorError`.
    """
    uvloop.run(_serve(settings, port_file, listens))


async def _serve(
    settings: EmulatorSettings, port_file: Path | None, listens: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # One more, when the loop has been closed.
            loop.call_soon_threadsafe(stopped.set)

    for number in STOPS:
        # Under nohup the end of the terminal is ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            # Not the loop's own handlers: closing the loop would restore the system's handlers.
            signal.signal(number, stop)
    async with running(settings) as listening:
        with _port_in(port_file, listening.port):
            listens(listening.url)
            await stopped.wait()


@contextmanager
def _port_in(port_file: Path | None, port: int) -> Iterator[None]:
    """Keep the port in a file, written atomically for a script that waits for it."""
    if port_file is None:
        yield
        return
    try:
        _refuse_other_file(port_file)
        written = _write_port(port_file, port)
    except OSError as error:
        raise EmulatorError(f"{port_file}: cannot be written ({error.strerror})") from None
    # While it is open, the system does not reuse its inode number.
    with written:
        try:
            yield
        finally:
            with suppress(OSError):
                # Another emulator may have replaced it.
                if os.path.samestat(port_file.lstat(), os.fstat(written.fileno())):
                    port_file.unlink()


def _write_port(port_file: Path, port: int) -> TextIO:
    """Write a port to a file atomically, by a temporary file of a random name; return it open."""
    descriptor, name = mkstemp(prefix=".cohortsync-", suffix=".port", dir=port_file.parent)
    draft = Path(name)
    with ExitStack() as unfinished:
        unfinished.callback(draft.unlink, missing_ok=True)
        file = unfinished.enter_context(os.fdopen(descriptor, "w"))
        file.write(f"{port}\n")
        file.flush()
        draft.chmod(0o644)
        draft.replace(port_file)
        unfinished.pop_all()
    return file


def _refuse_other_file(path: Path) -> None:
    """Raise `EmulatorError` if the path exists and no emulator wrote it."""
    try:
        is_file = S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_file or not _PORT.fullmatch(path.read_bytes()[:_LONGEST_PORT_FILE]):
        raise EmulatorError(f"{path}: is there already, and holds no port", hint="name a new file")


_PORT = re.compile(rb"([0-9]{1,5}\n)?")
_LONGEST_PORT_FILE = 16


def _words_for(error: OSError) -> str:
    """Return the system's own message, without the text that asyncio adds."""
    return os.strerror(error.errno).lower() if error.errno else "the system refuses"
