"""How much of the ceiling `cohortsync sync` uses over many cohorts, with planning alongside.

    python benchmarks/sync_ceiling.py [--cohorts N] [--requests N] [--per-seconds S]

Of the cohorts, every second one is pushed and the others are mirrored. A mirror reads and compares
its export before it sends, so the share shows whether the pacer waits for plans. Exits 1 when the
goal is missed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from table import print_table
from trial import ACCEPTED, Arrival, Client, accepted_per_second, read_log, report
from workload import WORKSPACE, emulator, environment

GOAL = 0.99
UIDS_A_REQUEST = 3_600
"""About what fits into a payload, of 24-hex uids."""
WINDOW_REQUESTS = 300
_LONGEST_SECONDS = 1_800.0


def configure(
    folder: Path, endpoint: str, cohorts: Sequence[Path], window: tuple[int, float]
) -> None:
    """Write a configuration with a cohort for each export."""
    lines = [
        f'[workspace]\nid = "{WORKSPACE}"\nendpoint = "{endpoint}"',
        f"[limits]\nrequests = {window[0]}\nper_seconds = {window[1]}",
    ]
    for number, path in enumerate(cohorts):
        mode = "add" if number % 2 else "mirror"
        lines.append(
            f'[cohorts.c{number}]\nname = "Cohort {number}"\nsource = "{path}"\n'
            f'mode = "{mode}"\nformat = "csv"'
        )
    (folder / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_exports(folder: Path, cohorts: int, requests: int) -> list[Path]:
    """Write an export of about `requests` full payloads for each cohort."""
    program = Path(__file__).with_name("exports.py")
    paths = [folder / f"export-{number}.csv" for number in range(cohorts)]
    for path in paths:
        rows = str(requests * UIDS_A_REQUEST)
        subprocess.run([sys.executable, program, "csv", rows, path], check=True)
    return paths


def longest_pause(arrivals: Sequence[Arrival]) -> float:
    """Return the most seconds between two requests."""
    return max((late.seconds - early.seconds for early, late in pairwise(arrivals)), default=0.0)


def main() -> None:
    """Print the share of the ceiling, and whether the goal is met."""
    parser = argparse.ArgumentParser(description="Share of the ceiling over many cohorts.")
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--requests", type=int, default=120, help="of each cohort, about")
    parser.add_argument("--per-seconds", type=float, default=15.0, help="of 300 requests")
    arguments = parser.parse_args()
    window = (WINDOW_REQUESTS, arguments.per_seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cohortsync-sync-")))
        exports = write_exports(folder, arguments.cohorts, arguments.requests)
        log = folder / "arrivals"
        limit = ("--requests", str(window[0]), "--per-seconds", str(window[1]))
        flags = ("--limiter", "sliding", *limit, "--count-only", "--log", str(log))
        listening = stack.enter_context(emulator(*flags))
        configure(folder, listening.endpoint, exports, window)
        command = [sys.executable, "-m", "engine", "sync", "--json"]
        command += ["--config", str(folder / "config.toml")]
        client = stack.enter_context(Client(command, folder, environment()))
        ended = client.wait(_LONGEST_SECONDS)
        if ended.exit_status != 0:
            raise SystemExit(f"the sync ended with {ended.exit_status}:\n{client.complaint}")
        arrivals, counted = read_log(log), report(listening.endpoint)
    accepted = [each for each in arrivals if each.status == ACCEPTED]
    share = accepted_per_second(arrivals) / (window[0] / window[1])
    is_met = share >= GOAL and len(accepted) == len(arrivals)
    print_table(
        f"`cohortsync sync` of {arguments.cohorts} cohorts at {window[0]} requests / "
        f"{window[1]:g} s",
        (
            "requests",
            "429s",
            "most in a window",
            "longest pause s",
            "of the ceiling",
            "goal",
            "met",
        ),
        [
            [
                str(len(arrivals)),
                str(counted["requests"]["by_status"].get("429", 0)),
                str(counted["workspaces"][WORKSPACE]["most_in_window"]),
                f"{longest_pause(arrivals):.2f}",
                f"{share:.2%}",
                f"{GOAL:.0%}",
                "yes" if is_met else "NO",
            ]
        ],
    )
    print(
        f"Goal: at least {GOAL:.0%}, and no 429.\n"
        "Measured: from the first accepted request to the last, as the emulator counted; planning "
        f"alongside.\nCPU of the sync: {ended.cpu_seconds:.1f} s, most memory "
        f"{ended.peak_bytes / 1e6:,.0f} MB."
    )


if __name__ == "__main__":
    main()
