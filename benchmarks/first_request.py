"""How soon a fresh run's first request is out, however large the export is.

    python benchmarks/first_request.py [--rows N] [--repeats N]

The default export has 5 GB, which is taken from TMPDIR and given back.
"""

import argparse
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from table import print_table
from workload import environment, export, push_command

GOAL_SECONDS = 2.0
CEILING = (300, 60.0)
_WAIT_SECONDS = 120.0


def time_first_request(path: Path) -> float:
    """Start a push; return the seconds until its first request has come in whole."""
    _forget_pages(path)
    with (
        TemporaryDirectory(prefix="cohortsync-first-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        server.settimeout(_WAIT_SECONDS)
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = push_command(path, endpoint, Path(folder), CEILING)
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        try:
            connection, _ = server.accept()
            with connection:
                _receive_request(connection)
                return time.monotonic() - started
        finally:
            process.kill()
            process.wait()


def _forget_pages(path: Path) -> None:
    """Have the kernel drop the file from memory: it was written long before, as a rule."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _receive_request(connection: socket.socket) -> None:
    """Receive one request's head and body."""
    connection.settimeout(_WAIT_SECONDS)
    received = b""
    length: int | None = None
    while length is None or len(received) < length:
        part = connection.recv(262_144)
        if not part:
            raise SystemExit("the push ended before its first request did")
        received += part
        head, blank_line, _ = received.partition(b"\r\n\r\n")
        if blank_line and (found := re.search(rb"(?i)content-length: *(\d+)", head)):
            length = len(head) + len(blank_line) + int(found[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time from start to first request.")
    parser.add_argument("--rows", type=int, default=200_000_000, help="uids in the export")
    parser.add_argument("--repeats", type=int, default=5, help="fresh runs of each export")
    arguments = parser.parse_args()
    rows = []
    for size in (1, arguments.rows):
        with export("csv", size) as path:
            times = [time_first_request(path) for _ in range(arguments.repeats)]
            rows.append(
                [
                    f"{path.stat().st_size / 1e9:.1f} GB" if size > 1 else "1 row",
                    f"{min(times):.2f}",
                    f"{median(times):.2f}",
                    f"{max(times):.2f}",
                ]
            )
    print_table(
        "From the start of `cohortsync push` to its first request, a csv of 24-hex uids",
        ("export", "s, least", "s, median", "s, most"),
        rows,
    )
    print(
        f"Goal: {GOAL_SECONDS:g} s at the most for 5 GB.\n"
        f"Measured: {arguments.repeats} fresh runs of each, the export not in the page cache, from "
        "the start of the process until a socket on\nloopback has received the first request "
        "whole. The row that is one row long shows what is not reading."
    )


if __name__ == "__main__":
    main()
