"""How fast the whole engine is when no ceiling holds it: an export on disk to accepted requests.

    python benchmarks/engine_speed.py [--rows N] [--repeats N]

The emulator runs in another process. What it could carry is measured too, by a client that does
nothing but send payloads packed beforehand, so that it is known not to be what is measured.
"""

import argparse
import base64
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from table import print_table
from workload import API_KEY, CEILING_PER_SECOND, WORKSPACE, Push, emulator, export, push

GOAL = 50
MODES = {"counts only": ("--count-only",), "keeps all members": ()}
_CONNECTIONS = 4
_REQUESTS = 64 * _CONNECTIONS
"""Different ones, sent over and over: about a million uids."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The best run against one kind of emulator, and that emulator's own capacity."""

    push: Push
    emulator_cpu_seconds: float
    """What the emulator used during that run."""
    capacity: float
    """Requests a second that the emulator has answered."""


def measure(path: Path, flags: tuple[str, ...], repeats: int, seconds: float) -> Measured:
    """Push `repeats` times, each into a fresh emulator; flood one more for about `seconds`."""
    runs: list[tuple[Push, float]] = []
    for _ in range(repeats):
        with emulator(*flags) as listening:
            before = listening.cpu_seconds
            done = push(path, listening.endpoint)
            runs.append((done, listening.cpu_seconds - before))
    best, used = min(runs, key=lambda run: run[0].seconds)
    with emulator(*flags) as listening:
        capacity = flood(listening.port, seconds)
    return Measured(best, used, capacity)


def flood(port: int, seconds: float) -> float:
    """Send full payloads over a few connections; return the requests answered a second."""
    requests = [_request(number) for number in range(_REQUESTS)]

    def send(number: int) -> int:
        answered = 0
        with _connection(port) as connection:
            for request in cycle(requests[number::_CONNECTIONS]):
                connection.sendall(request)
                _read_acceptance(connection)
                answered += 1
                if time.monotonic() > deadline:
                    break
        return answered

    started = time.monotonic()
    deadline = started + seconds
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        answered = sum(pool.map(send, range(_CONNECTIONS)))
    return answered / (time.monotonic() - started)


def _request(number: int) -> bytes:
    """Return the bytes of a request with as many 24-hex uids as fit."""
    members = ",".join(f'{{"uid":"{number:012x}{place:012x}"}}' for place in range(3650))
    body = (
        '{"action":"add_members","partner":"cohortsync","parameters":{"cohort_name":"Benchmark",'
        f'"cohort_id":"benchmark","members":[{members}]}}}}'
    )
    credentials = base64.b64encode(f"{WORKSPACE}:{API_KEY}".encode()).decode()
    head = (
        "POST /v1/integrations/cohortsync HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Basic {credentials}\r\nMOE-APPKEY: {WORKSPACE}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return f"{head}{body}".encode()


@contextmanager
def _connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _read_acceptance(connection: socket.socket) -> None:
    """Read one answer, which ends with its JSON object."""
    answer = b""
    while not answer.endswith(b"}"):
        received = connection.recv(65_536)
        if not received:
            raise SystemExit("the emulator closed a connection")
        answer += received
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"the emulator refused: {answer.decode()}")


def _row(mode: str, measured: Measured) -> list[str]:
    done = measured.push
    uids, requests = done.document["uids"]["accepted"], done.document["requests"]["sent"]
    millions = uids / 1e6
    return [
        mode,
        f"{millions / done.seconds:.2f}",
        f"{requests / done.seconds:.0f}",
        f"{requests / done.seconds / CEILING_PER_SECOND:.0f}",
        f"{done.cpu_seconds / millions:.2f}",
        f"{measured.emulator_cpu_seconds / millions:.2f}",
        f"{measured.capacity:.0f}",
        f"{measured.capacity / (requests / done.seconds):.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The whole engine's speed, the ceiling lifted.")
    parser.add_argument("--rows", type=int, default=5_000_000, help="uids in the export")
    parser.add_argument("--repeats", type=int, default=3, help="pushes for each emulator")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to flood it")
    arguments = parser.parse_args()
    with export("csv", arguments.rows) as path:
        rows = [
            _row(mode, measure(path, flags, arguments.repeats, arguments.seconds))
            for mode, flags in MODES.items()
        ]
    print_table(
        f"`cohortsync push` of a csv with {arguments.rows:,} uids of 24 hex digits, ceiling lifted",
        (
            "emulator",
            "M uids/s",
            "requests/s",
            "x ceiling",
            "CPU s/M",
            "its CPU s/M",
            "it carries/s",
            "x engine",
        ),
        rows,
    )
    print(
        f"Goal: {GOAL} times what the ceiling of {CEILING_PER_SECOND:g} requests a second needs; "
        "the emulator carries twice what the engine\nreaches, or more.\n"
        f"Measured: the best of {arguments.repeats} fresh runs by wall clock, from the start of "
        "the process to its end. CPU is user and system\ntime for a million uids, of the engine "
        f"and of the emulator. It carries: full payloads, packed beforehand, over\n{_CONNECTIONS} "
        "connections at once."
    )


if __name__ == "__main__":
    main()
