"""A client against an emulator under a limit: how it is run, and what the emulator saw of it.

The emulator's log has a line a request, so this reports what the API counted, not what
a client says of itself. Like `workload`, this module loads nothing heavy.
"""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

_LOOK_SECONDS = 0.1
ACCEPTED = 200
_DRAIN_SECONDS = 40.0
"""How long a client may take to stop; cohortsync's own bound is 30 s."""


class Arrival(NamedTuple):
    """A request as the emulator saw it."""

    seconds: float
    """When it came, from the emulator's start."""
    status: int | None
    """What it was answered; None for no whole answer."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the kernel reports of a process."""

    exit_status: int | None
    """None where it had to be stopped."""
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Client:
    """A process under watch, which does not outlive its `with` block."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = folder / "client.log"
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    @property
    def complaint(self) -> str:
        """Whatever the process has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def wait(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> Ended:
        """Wait for its end; after `seconds`, or when it is over, stop it, by force if need be."""
        ended = self._reap(seconds, is_over)
        if ended is None:
            self._process.terminate()
            ended = self._reap(_DRAIN_SECONDS)
            if ended is None:
                self._process.kill()
                ended = self._reap(_DRAIN_SECONDS)
            if ended is None:
                raise SystemExit("a client could not be killed")
            return Ended(None, ended.seconds, ended.cpu_seconds, ended.peak_bytes)
        return ended

    def _reap(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> Ended | None:
        deadline = time.monotonic() + seconds
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline or is_over():
                return None
            time.sleep(_LOOK_SECONDS)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            self._process.returncode,
            time.monotonic() - self._started,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
        )


def read_log(path: Path) -> list[Arrival]:
    """Read an emulator's log in the order of arrival."""
    arrivals = []
    for line in path.read_text(encoding="ascii").splitlines():
        seconds, status = line.split()
        arrivals.append(Arrival(float(seconds), None if status == "-" else int(status)))
    return sorted(arrivals, key=lambda arrival: arrival.seconds)


def report(endpoint: str) -> dict[str, Any]:
    """Return the emulator's own count."""
    with urllib.request.urlopen(f"{endpoint}/_emulator/report") as answer:  # noqa: S310  loopback
        counted: dict[str, Any] = json.load(answer)
    return counted


def accepted_per_second(arrivals: Iterable[Arrival]) -> float:
    """Return (n - 1) / (t_last - t_first) of the n accepted requests; 0 without a span."""
    times = [arrival.seconds for arrival in arrivals if arrival.status == ACCEPTED]
    span = times[-1] - times[0] if times else 0.0
    return (len(times) - 1) / span if span else 0.0
