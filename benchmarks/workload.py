"""A load for the whole engine: an export, `cohortsync push`, and the emulator, a process each.

Everything is on loopback and in a temporary folder (TMPDIR chooses the disk). This module loads
nothing heavy on purpose: the peak memory that the system reports of a child begins with what its
parent held when it was started. Figures of processes come from the kernel, as Linux has them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CEILING_PER_SECOND = 300 / 60
"""Requests a second that the API allows."""
LIFTED = (1_000_000, 1.0)
"""A ceiling that is never met: requests, and the seconds of their window."""
WORKSPACE, API_KEY = "DEMO", "demo-key"
_NEVER_COMPILED = "PYTHONDONTWRITEBYTECODE"
_ENGINE = (sys.executable, "-m", "engine")
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Push:
    """What one `cohortsync push` came to, by its own document and by the kernel."""

    document: dict[str, Any]
    """The document that `--json` prints."""
    seconds: float
    """From the start of the process to its end."""
    cpu_seconds: float
    """User and system time of the process, all threads."""
    peak_bytes: int
    """The most memory that was resident at any time."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """An emulator process that listens on loopback."""

    port: int
    pid: int

    @property
    def endpoint(self) -> str:
        """What `--endpoint` takes."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def emulator(*flags: str) -> Iterator[Emulator]:
    """Run an emulator without a rate limit for the length of the block."""
    with TemporaryDirectory(prefix="cohortsync-emulator-") as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen(
            [
                *(*_ENGINE, "emulator", "--port", "0", "--port-file", str(port_file)),
                *("--workspace", f"{WORKSPACE}:{API_KEY}", "--limiter", "none", *flags),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the emulator did not start")
                time.sleep(0.02)
            yield Emulator(int(port_file.read_text(encoding="ascii")), process.pid)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def export(format_: str, rows: int) -> Iterator[Path]:
    """Write an export of 24-hex uids for the length of the block, by a process of its own."""
    with TemporaryDirectory(prefix="cohortsync-export-") as folder:
        path = Path(folder) / f"export.{format_}"
        program = Path(__file__).with_name("exports.py")
        subprocess.run([sys.executable, program, format_, str(rows), path], check=True)
        yield path


def push_command(path: Path, endpoint: str, folder: Path, ceiling: tuple[int, float]) -> list[str]:
    """Return the command of a fresh run, whose configuration and state are put into `folder`."""
    config = folder / "config.toml"
    config.write_text(
        f'[workspace]\nid = "{WORKSPACE}"\nendpoint = "{endpoint}"\n'
        f"[limits]\nrequests = {ceiling[0]}\nper_seconds = {ceiling[1]}\n",
        encoding="utf-8",
    )
    return [
        *(*_ENGINE, "push", str(path), "--config", str(config), "--json"),
        *("--cohort-id", "benchmark", "--cohort-name", "Benchmark"),
    ]


def environment() -> dict[str, str]:
    """Return this process's environment with the emulator's key in it."""
    # An installed program is compiled once; one in a checkout would be compiled at each start.
    inherited = {name: text for name, text in os.environ.items() if name != _NEVER_COMPILED}
    return {**inherited, "MOENGAGE_API_KEY": API_KEY, "MOENGAGE_WORKSPACE_ID": WORKSPACE}


def push(path: Path, endpoint: str, ceiling: tuple[int, float] = LIFTED) -> Push:
    """Push an export in a fresh run, off a terminal, and see that all of it was accepted."""
    with TemporaryDirectory(prefix="cohortsync-push-") as name:
        folder = Path(name)
        command = push_command(path, endpoint, folder, ceiling)
        with (folder / "document").open("w+b") as document, (folder / "log").open("w+b") as log:
            started = time.monotonic()
            process = subprocess.Popen(command, stdout=document, stderr=log, env=environment())
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                raise SystemExit(f"the push failed:\n{log.read().decode()}")
            document.seek(0)
            return Push(
                json.load(document),
                seconds,
                usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * 1024,
            )


def rows_text(rows: Sequence[int] | int) -> str:
    """Return counts of rows as people say them: `1 M`, or `1 M, 10 M`."""
    if isinstance(rows, int):
        return f"{rows / 1e6:g} M"
    return ", ".join(map(rows_text, rows))
