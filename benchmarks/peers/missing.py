"""Print how many uids of an export an emulator's cohort lacks, and how many it has beyond them.

    python benchmarks/peers/missing.py EXPORT ENDPOINT

A program of its own, so that its memory is not what a peer's begins with.
"""

import sys
import urllib.error
import urllib.request
from pathlib import Path

import orjson
from api import read_uids


def members(endpoint: str) -> set[str]:
    """Return the cohort as the emulator has it; nobody if it was never created."""
    url = f"{endpoint}/_emulator/cohorts/benchmark/members"
    try:
        with urllib.request.urlopen(url) as lines:  # noqa: S310  loopback
            return {orjson.loads(line) for line in lines}
    except urllib.error.HTTPError as error:
        error.close()
        return set()


if __name__ == "__main__":
    export, cohort = set(read_uids(Path(sys.argv[1]))), members(sys.argv[2])
    print(len(export - cohort), len(cohort - export))
