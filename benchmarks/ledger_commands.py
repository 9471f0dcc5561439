"""The CPU of commands that read a ledger of many attempts, beside an empty state folder.

    python benchmarks/ledger_commands.py [--runs 1000] [--each 10000] [--folder DIR]

The ledger has `runs` finished pushes of `each` attempts: ten million unless said otherwise, which
take about 5 GB. Each command is a process of its own; its CPU time is the least of three.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.clock import SystemClock
from engine.ledger.sqlite.ledger import Ledger
from table import print_table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "shell"))  # The tests make such ledgers, too.

from large_ledger import ENDPOINT, SECONDS_APART, make_large_ledger  # noqa: E402 - found by the line above

A_DAY_OF_REQUESTS = 432_000
"""What the default ceiling allows in a day; the second report covers as many."""


def main() -> None:
    """Make the ledger, run the commands, and print their CPU times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--each", type=int, default=10_000, help="attempts of each run")
    parser.add_argument("--folder", type=Path, help="where to make the ledger (default: temporary)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        compare(Path(name), asked.runs, asked.each)


def compare(folder: Path, runs: int, each: int) -> None:
    """Print the CPU time of each command with the large ledger and without any."""
    (folder / "config.toml").write_text(f'[workspace]\nid = "W"\nendpoint = "{ENDPOINT}"\n')
    empty, large = folder / "empty", folder / "large"
    empty.mkdir()
    begin = time.time_ns() - runs * SECONDS_APART * 1_000_000_000
    path = make_large_ledger(large, runs=runs, each=each, begin_utc_ns=begin)
    began = time.process_time()
    asyncio.run(_store_totals(path))
    stored = time.process_time() - began
    rows = []
    for command in commands(runs, each):
        cells = [" ".join(command)]
        for state in (empty, large):
            found = [_cpu_seconds(command, state, folder) for _ in range(3)]
            seconds, status = min(found)
            cells.append(f"{seconds:.2f} s" + (f" (exit {status})" if status else ""))
        rows.append(cells)
    size = path.stat().st_size / 1e9
    title = (
        f"CPU of commands; {runs:,} runs of {each:,} attempts, {size:.1f} GB (their sums, which "
        f"each run stores at its end, took {stored:.0f} s in all)"
    )
    print_table(title, ("command", "empty state", f"{runs * each:,} attempts"), rows)


def commands(runs: int, each: int) -> Iterator[Sequence[str]]:
    """Yield the commands to measure, of those that there are."""
    busy = max(1, min(runs, A_DAY_OF_REQUESTS // each)) * SECONDS_APART // 60
    for command in (
        ("runs",),
        ("runs", "--cohort", "C1"),
        ("show", "latest"),
        ("plans",),
        ("status",),
        ("report", "--since", "1m"),
        ("report", "--since", f"{max(1, busy)}m"),
        ("prune", "--dry-run"),
    ):
        asked = [sys.executable, "-m", "engine", command[0], "--help"]
        if subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0:
            yield command


async def _store_totals(path: Path) -> None:
    ledger = await Ledger.open(path, SystemClock())
    await ledger.store_missing_totals()
    await ledger.close()


def _cpu_seconds(command: Sequence[str], state: Path, folder: Path) -> tuple[float, int]:
    """Return the CPU time of a command, of all its threads, and its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *command, "--state", str(state)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode


if __name__ == "__main__":
    main()
