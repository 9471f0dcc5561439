"""CPU time that a push needs for a million uids: the slope between a small and a large export.

    python benchmarks/cpu.py [--rows SMALL LARGE] [--repeats N] [--ceiling]

The slope leaves out what every run needs once, such as starting Python. With `--ceiling` the pushes
keep to 300 requests a minute, as a nightly job would, which takes 5 minutes a repeat. A plain way
of packing is timed in between: the same two cores may be half again as fast on another day.
"""

import argparse
import time
from collections.abc import Sequence
from statistics import median

from exports import hex_uids, string_array
from packing import naive
from table import print_table
from workload import LIFTED, Push, emulator, export, push, rows_text

GOAL = 0.7
CEILING = (300, 60.0)
YARDSTICK_UIDS = 100_000


def plain_packing(uids: Sequence[str]) -> float:
    """Return the CPU seconds that `json.dumps` a uid takes for a million of them."""
    started = time.process_time()
    for _ in naive(uids):
        pass
    return (time.process_time() - started) / len(uids) * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU seconds for a million uids.")
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000_000, 4_000_000))
    parser.add_argument("--repeats", type=int, default=5, help="pushes of each export, in turn")
    parser.add_argument("--ceiling", action="store_true", help="keep to 300 requests a minute")
    arguments = parser.parse_args()
    small, large = arguments.rows
    ceiling = CEILING if arguments.ceiling else LIFTED
    pushes: dict[int, list[Push]] = {small: [], large: []}
    plain: list[float] = []
    uids = string_array(next(hex_uids(YARDSTICK_UIDS))).to_pylist()
    with (
        export("csv", small) as small_path,
        export("csv", large) as large_path,
        emulator("--count-only") as listening,
    ):
        for _ in range(arguments.repeats):
            for rows, path in ((small, small_path), (large, large_path)):
                pushes[rows].append(push(path, listening.endpoint, ceiling))
                plain.append(plain_packing(uids))
    cpu = {rows: median(done.cpu_seconds for done in pushes[rows]) for rows in pushes}
    slope = (cpu[large] - cpu[small]) / (large - small) * 1e6
    kept = f"kept, {CEILING[0]} / {CEILING[1]:g} s" if arguments.ceiling else "lifted"
    print_table(
        f"CPU time of `cohortsync push`, csv, uids of 24 hex digits, ceiling {kept}",
        ("rows", "CPU s, least", "CPU s, median", "CPU s, most"),
        [
            [
                rows_text(rows),
                f"{min(done.cpu_seconds for done in pushes[rows]):.2f}",
                f"{cpu[rows]:.2f}",
                f"{max(done.cpu_seconds for done in pushes[rows]):.2f}",
            ]
            for rows in pushes
        ],
    )
    print(
        f"{slope:.2f} CPU seconds a million uids. Goal: {GOAL} at the most. Packing alone by "
        f"json.dumps a uid: {median(plain):.2f};\nshare of that: {slope / median(plain):.2f}.\n"
        "Measured: user and system time of the process, all threads; fresh runs, "
        f"{arguments.repeats} of each export in turn,\n"
        "stderr off a terminal; the slope between the medians."
    )


if __name__ == "__main__":
    main()
