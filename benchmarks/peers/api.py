"""What every peer here has to know of the API, and how each is called.

    python benchmarks/peers/PEER.py EXPORT ENDPOINT [--requests N] [--per-seconds S]

Credentials come from MOENGAGE_WORKSPACE_ID and MOENGAGE_API_KEY, as cohortsync's do.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WORKSPACE, API_KEY = os.environ["MOENGAGE_WORKSPACE_ID"], os.environ["MOENGAGE_API_KEY"]
HEADERS = {"MOE-APPKEY": WORKSPACE, "Content-Type": "application/json"}
_ADDRESS = "/v1/integrations/cohortsync"


def arguments() -> argparse.ArgumentParser:
    """Return a parser of what all peers take; `url` is made of the endpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("export", type=Path)
    parser.add_argument("url", metavar="endpoint", type=lambda endpoint: endpoint + _ADDRESS)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--per-seconds", type=float, default=60.0)
    return parser


def read_uids(export: Path) -> Iterator[str]:
    """Read a csv whose only column holds the uids."""
    with export.open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            yield line.rstrip("\n")


def request(uids: Sequence[str]) -> dict[str, Any]:
    """Return a request's body."""
    return {
        "action": "add_members",
        "partner": "cohortsync",
        "parameters": {
            "cohort_name": "Benchmark",
            "cohort_id": "benchmark",
            "members": [{"uid": uid} for uid in uids],
        },
    }
