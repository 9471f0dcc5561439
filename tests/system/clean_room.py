"""Where a process of ours runs: a clean environment, and patience with an end."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = (sys.executable, "-W", "error", "-m", "engine")
WORKSPACE, API_KEY = "NIGHTLY", "nightly-data-api-key"
PATIENCE_SECONDS = 120.0
"""What no step takes: past it something hangs, and the test fails instead of the whole run."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return what cron would leave of the environment, and the key."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    # The emulator speaks no TLS, and aiohttp reads the system's CA bundle each time it is imported.
    clean["SSL_CERT_FILE"] = os.devnull
    return {**clean, "MOENGAGE_API_KEY": API_KEY, **more}


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.01)


def is_waiting(pid: int) -> bool:
    """Tell whether a process hears SIGTERM, and sleeps."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    heard = int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1
    return bool(heard) and status["State"].startswith("S")
