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

GOAL = "plan of 100 M uids: 90 s at 2,000 MB, 270 s at 512 MB; snapshot: 60 s; memory: 1.5 x limit"
SIZES = (10_000_000, 100_000_000)
MEMORY = (2000, 512)
HEADINGS = (
    *("uids", "limit MB", "stage s", "compare s", "plan s", "snapshot s"),
    *("peak MB", "÷ limit", "disk GB", "of it spilled"),
)


def row(uids: int, memory: int, stage: Step, compare: Step, fold: Step) -> list[str]:
    """Return the cells of one size under one limit."""
    peak_mb = max(step.peak_mb for step in (stage, compare, fold))
    return [
        f"{uids / 1e6:g} M",
        f"{memory}",
        f"{stage.seconds:.1f}",
        f"{compare.seconds:.1f}",
        f"{stage.seconds + compare.seconds:.1f}",
        f"{fold.seconds:.1f}",
        f"{peak_mb:.0f}",
        f"{peak_mb / memory:.2f}",
        f"{max(step.disk_gb for step in (stage, compare, fold)):.1f}",
        f"{max(step.spilled_gb for step in (compare, fold)):.1f}",
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
                steps = [measure(step, folder, memory) for step in ("stage", "compare", "fold")]
                rows.append(row(uids, memory, *steps))
    print_table("A mirror's plan, 1 % adds and 1 % removes, uids of 24 hex digits", HEADINGS, rows)
    print(
        f"Goal: {GOAL}.\n"
        "Measured: each step a process, start and end included. plan = stage (the export, Parquet, "
        "read, checked and kept)\n+ compare; snapshot = the next generation, with its digest. "
        "Disk: the most that lay there beside both inputs."
    )


if __name__ == "__main__":
    main()
