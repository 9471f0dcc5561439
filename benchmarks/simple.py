"""Up to which size a simpler way would do: two sets in memory beside a mirror's plan.

    python benchmarks/simple.py [--uids N ...]

Both read the same two Parquet files and write what comes and what goes (1 % each). The sets keep no
generations, guard nothing, and count neither duplicates nor invalid rows.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from planning_steps import measure
from table import print_table

GOAL = "none: this shows what the machinery costs where it would not be needed"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
MEMORY = 2000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A mirror's plan beside two sets.")
    parser.add_argument("--uids", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    rows = []
    for uids in arguments.uids:
        with TemporaryDirectory(prefix="cohortsync-simple-") as name:
            folder = Path(name)
            measure("write", folder, uids)
            simple = measure("sets", folder, 0)
            stage, compare = (measure(step, folder, MEMORY) for step in ("stage", "compare"))
            seconds, peak_mb = stage.seconds + compare.seconds, max(stage.peak_mb, compare.peak_mb)
            rows.append(
                [
                    f"{uids:,}",
                    *(f"{simple.seconds:.2f}", f"{seconds:.2f}"),
                    f"{seconds / simple.seconds:.1f}",
                    *(f"{simple.peak_mb:.0f}", f"{peak_mb:.0f}"),
                    f"{peak_mb / simple.peak_mb:.2f}",
                ]
            )
    print_table(
        "Two sets beside a mirror's plan, uids of 24 hex digits",
        ("uids", "sets s", "plan s", "plan ÷ sets", "sets MB", "plan MB", "plan ÷ sets"),
        rows,
    )
    print(
        f"Goal: {GOAL}.\n"
        "Measured: processes, start and end included; the plan's are two, stage and compare, at a "
        f"limit of {MEMORY} MB."
    )


if __name__ == "__main__":
    main()
