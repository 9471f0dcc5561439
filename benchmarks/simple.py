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

GOAL = "faster than the sets from 300,000 uids on"
SIZES = (10_000, 100_000, 300_000, 1_000_000, 10_000_000)
MEMORY = 500


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
            plan = measure("plan", folder, MEMORY)
            rows.append(
                [
                    f"{uids:,}",
                    *(f"{simple.seconds:.2f}", f"{plan.seconds:.2f}"),
                    f"{plan.seconds / simple.seconds:.1f}",
                    *(f"{simple.peak_mb:.0f}", f"{plan.peak_mb:.0f}"),
                    f"{plan.peak_mb / simple.peak_mb:.2f}",
                ]
            )
    print_table(
        "Two sets beside a mirror's plan, uids of 24 hex digits",
        ("uids", "sets s", "plan s", "plan ÷ sets", "sets MB", "plan MB", "plan ÷ sets"),
        rows,
    )
    print(
        f"Goal: {GOAL}.\n"
        f"Measured: processes, start and end included; the plan at a limit of {MEMORY} MB."
    )


if __name__ == "__main__":
    main()
