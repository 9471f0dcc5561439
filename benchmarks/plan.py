"""What planning a mirror takes: time, memory and disk, out of core.

    python benchmarks/plan.py [--uids N ...] [--memory MEGABYTES ...]

As many uids (24 hex digits) acknowledged as in the export, of which 1 % come and 1 % go. Each step
is a process of its own. 100 million uids take about 12 GB of TMPDIR, deleted in the end.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from planning_steps import Step, clear, measure
from table import print_table

GOAL = "plan of 100 M uids: 30 s at any limit; of 10 M: 3.5 s; snapshot: 15 s; peak: 600 MB"
SIZES = (10_000_000, 100_000_000)
MEMORY = (500, 64)
HEADINGS = (
    *("uids", "limit MB", "plan s", "of it reading", "plan CPU s"),
    *("snapshot s", "snapshot CPU s", "peak MB", "disk GB"),
)


def row(uids: int, memory: int, plan: Step, fold: Step) -> list[str]:
    """Return the cells of one size under one limit."""
    return [
        f"{uids / 1e6:g} M",
        f"{memory}",
        f"{plan.seconds:.1f}",
        f"{plan.reading_seconds:.1f}",
        f"{plan.cpu_seconds:.1f}",
        f"{fold.seconds:.1f}",
        f"{fold.cpu_seconds:.1f}",
        f"{max(plan.peak_mb, fold.peak_mb):.0f}",
        f"{max(plan.disk_gb, fold.disk_gb):.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What planning a mirror takes.")
    parser.add_argument("--uids", type=int, nargs="+", default=SIZES)
    parser.add_argument("--memory", type=int, nargs="+", default=MEMORY, help="limits in MB")
    arguments = parser.parse_args()
    rows = []
    for uids in arguments.uids:
        with TemporaryDirectory(prefix="cohortsync-plan-") as name:
            folder = Path(name)
            measure("write", folder, uids)
            for memory in arguments.memory:
                clear(folder)
                steps = [measure(step, folder, memory) for step in ("plan", "fold")]
                rows.append(row(uids, memory, *steps))
    print_table("A mirror's plan, 1 % adds and 1 % removes, uids of 24 hex digits", HEADINGS, rows)
    print(
        f"Goal: {GOAL}.\n"
        "Measured: each step a process, start and end included. plan = reading (the export, "
        "Parquet, is checked and kept)\n+ comparison; snapshot = the next generation, with its "
        "digest. Disk: the most that lay there beside both inputs."
    )


if __name__ == "__main__":
    main()
