"""The most memory that a push holds, for exports of 1, 10 and 100 million rows.

    python benchmarks/memory.py [--rows N ...] [--formats csv parquet]

The largest exports take 2.5 GB of TMPDIR each, one at a time, and are deleted.
"""

import argparse

from table import print_table
from workload import Push, emulator, export, push, rows_text

GOAL_MB = 300
ROWS = (1_000_000, 10_000_000, 100_000_000)


def measure(format_: str, rows: int) -> Push:
    """Push one export into an emulator that only counts."""
    with export(format_, rows) as path, emulator("--count-only") as listening:
        return push(path, listening.endpoint)


def _row(format_: str, rows: int, done: Push) -> list[str]:
    return [
        format_,
        rows_text(rows),
        f"{done.peak_bytes / 1e6:.0f}",
        f"{done.seconds:.1f}",
        f"{done.document['uids']['accepted']:,}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Peak memory of a push by the export's size.")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="sizes of the exports")
    parser.add_argument("--formats", nargs="+", choices=("csv", "parquet"), default=None)
    arguments = parser.parse_args()
    rows = [
        _row(format_, size, measure(format_, size))
        for format_ in arguments.formats or ("csv", "parquet")
        for size in arguments.rows
    ]
    print_table(
        "Peak memory of `cohortsync push`, uids of 24 hex digits, ceiling lifted",
        ("export", "rows", "peak MB", "seconds", "uids accepted"),
        rows,
    )
    print(
        f"Goal: flat, {GOAL_MB} MB at the most.\n"
        "Measured: the most resident memory of the process in its whole life, as the kernel "
        "counts it (ru_maxrss),\none fresh run each; the emulator, in another process, only counts."
    )


if __name__ == "__main__":
    main()
