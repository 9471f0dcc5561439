"""A relay that can be cut and joined again, as a network between two hosts can be.

    python benchmarks/tcp_relay.py PORT SOCKET

As a program, it forwards what comes to a port on loopback to a Unix socket: a network namespace has
a loopback of its own, and shares the files.
"""

import asyncio
import contextlib
import sys
import threading
from pathlib import Path
from typing import Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Place = int | Path
"""A port on loopback, or a Unix socket."""


class Relay:
    """Forwards connections from one place to another, in a thread of its own."""

    def __init__(self, listening: Place, target: Place) -> None:
        """Port 0 is any free one: `port` says which, after it was entered."""
        self.port = 0
        self._listening = listening
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._flows: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Forward nothing: connections stay open, and new ones are accepted."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def join(self) -> None:
        """Forward what has waited, and what comes."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def wait(self) -> None:
        """Forward until the process is killed."""
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flows = asyncio.Event()
        self._flows.set()
        server = self._loop.run_until_complete(self._listen())
        if isinstance(self._listening, int):
            self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        if isinstance(self._listening, int):
            return await asyncio.start_server(self._relay, "127.0.0.1", self._listening)
        return await asyncio.start_unix_server(self._relay, self._listening)

    async def _connect(self) -> Streams:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._flows.wait()
            there = await self._connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    with Relay(int(sys.argv[1]), Path(sys.argv[2])) as relay:
        print("listening", flush=True)
        relay.wait()
