"""CPU time and memory of a push, beside the careful script of `peers/`, on the same uids.

    python benchmarks/cpu.py [--rows SMALL LARGE] [--repeats N] [--ceiling]

CPU time a million uids is the slope between a small and a large export: it leaves out what every
run needs once, such as starting Python. With `--ceiling` the clients keep to 300 requests a minute,
as a nightly job would, which takes 5 minutes a repeat. They then work at the same time, as the same
cores may be half again as fast a minute later.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from peers import PEERS, Ceiling
from table import print_table
from trial import Client, Ended
from workload import LIFTED, emulator, environment, export, rows_text

GOAL, MEMORY_GOAL = 1.0, 2.0
"""At most so many times what the careful script takes."""
CEILING = (300, 60.0)
LONGEST_RUN_SECONDS = 3600.0
NAMES = ("cohortsync", "careful")


def run(name: str, path: Path, ceiling: Ceiling) -> Ended:
    """Let a client push an export to its end, into an emulator of its own that only counts."""
    peer = PEERS[name]
    with emulator("--count-only") as listening, TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = peer.command(path, listening.endpoint, folder, ceiling)
        with Client(command, folder, environment()) as client:
            ended = client.wait(LONGEST_RUN_SECONDS)
            if ended.exit_status != 0:
                raise SystemExit(f"{peer.title} failed:\n{client.complaint}")
            return ended


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU seconds for a million uids, and memory.")
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000_000, 4_000_000))
    parser.add_argument("--repeats", type=int, default=5, help="pushes of each export, in turn")
    parser.add_argument("--ceiling", action="store_true", help="keep to 300 requests a minute")
    arguments = parser.parse_args()
    small, large = arguments.rows
    ceiling = CEILING if arguments.ceiling else LIFTED
    runs: dict[tuple[str, int], list[Ended]] = {}
    with (
        export("csv", small) as small_path,
        export("csv", large) as large_path,
        ThreadPoolExecutor(len(NAMES) if arguments.ceiling else 1) as pool,
    ):
        for _ in range(arguments.repeats):
            for rows, path in ((small, small_path), (large, large_path)):
                ended = pool.map(partial(run, path=path, ceiling=ceiling), NAMES)
                for name, each in zip(NAMES, ended, strict=True):
                    runs.setdefault((name, rows), []).append(each)
    cpu = {key: sorted(each.cpu_seconds for each in ended) for key, ended in runs.items()}
    peak = {name: max(each.peak_bytes for each in runs[name, large]) / 1e6 for name in NAMES}
    slope = {
        name: (median(cpu[name, large]) - median(cpu[name, small])) / (large - small) * 1e6
        for name in NAMES
    }
    kept = f"kept, {CEILING[0]} / {CEILING[1]:g} s" if arguments.ceiling else "lifted"
    print_table(
        f"CPU time of a push, csv, uids of 24 hex digits, ceiling {kept}",
        ("client", "rows", "CPU s, least", "CPU s, median", "CPU s, most"),
        [
            [
                PEERS[name].title,
                rows_text(rows),
                *(f"{s:.2f}" for s in (all_[0], median(all_), all_[-1])),
            ]
            for (name, rows), all_ in sorted(cpu.items())
        ],
    )
    ours, theirs = (slope[name] for name in NAMES)
    print(
        f"{ours:.2f} CPU seconds a million uids, {theirs:.2f} of the careful script: "
        f"{ours / theirs:.2f} of it. Goal: {GOAL} at the most.\n"
        f"Peak memory: {peak[NAMES[0]]:.0f} MB, {peak[NAMES[1]]:.0f} MB of the careful script: "
        f"{peak[NAMES[0]] / peak[NAMES[1]]:.2f} of it. Goal: {MEMORY_GOAL} at the most.\n"
        "Measured: user and system time of the process, all threads, and the most resident memory "
        f"of its life; fresh runs,\n{arguments.repeats} of each export in turn, stderr off a "
        "terminal; the slope between the medians."
    )


if __name__ == "__main__":
    main()
