"""Steps of a benchmark of engines, each as a process of its own, which says what it took."""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any


def add_step_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, which are not shown, by which a step is started."""
    for hidden in ("--step", "--folder", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)


def run_step(script: str, step: str, engine: str, folder: Path, url: str) -> dict[str, Any]:
    """Run a step of a script as a process; return what `print_step` has printed there."""
    command = [sys.executable, script, "--step", step, "--engine", engine]
    command += ["--folder", str(folder), "--url", url]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{step} on {engine} failed")
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def print_step(found: dict[str, float]) -> None:
    """Print what a step has found, and the peak memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps(found | {"peak_mb": peak}))
