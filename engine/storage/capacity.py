"""How much memory and disk a plan takes, and into how many shares it is parted."""

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

from engine.errors import IncompleteError
from engine.storage.settings import PlanningSettings

MEGABYTE = 1_000_000
_LEAST_MEGABYTES = 64
_MEGABYTES_A_THREAD = 150
"""What a thread takes of address space: its stack, and an arena of memory."""
_BYTES_A_ROW = 48
"""What a row of a join takes besides its uid, as its memory limit counts; beyond it, it spills."""
_BYTES_A_STORED_ROW = 9
"""What a row of an operation or a snapshot takes besides its uid, at most."""


def shares_for(rows: int, uid_bytes: int, settings: PlanningSettings) -> int:
    """Return into how many shares uids are parted, so that a join of one share fits into memory.

    `rows` and `uid_bytes` are of both sides together.
    """
    needed = uid_bytes + rows * _BYTES_A_ROW
    return max(1, -(-needed // (settings.memory_megabytes * MEGABYTE)))


def affordable(settings: PlanningSettings) -> PlanningSettings:
    """Return what of the settings fits into a limit on address space (`ulimit -v`).

    Raises `IncompleteError` if hardly anything fits.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return settings
    left = (limit - _address_space()) // MEGABYTE
    threads = settings.threads or os.cpu_count() or 1
    if left >= settings.memory_megabytes * 3 // 2 + threads * _MEGABYTES_A_THREAD:
        return settings
    memory = min(settings.memory_megabytes, (left - _MEGABYTES_A_THREAD) // 2)
    if memory < _LEAST_MEGABYTES:
        raise IncompleteError(
            f"the limit on address space leaves {left:,} MB for the plan",
            hint="raise that limit (`ulimit -v`, LimitAS= of systemd)",
        )
    return replace(settings, memory_megabytes=memory, threads=1)


def _address_space() -> int:
    """Return how many bytes of address space this process has taken; 0 where that is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def disk_needed(uids: int, uid_bytes: int, known: int) -> int:
    """Return about how many bytes of disk a plan takes on top of the staged export.

    `uids` are the export's rows with a uid, of `uid_bytes` together, `known` the snapshot's rows.
    It does for the first run, when everything is added, and for any run that changes no more
    than the larger side holds.
    """
    a_row = uid_bytes / max(uids, 1) + _BYTES_A_STORED_ROW
    return round(a_row * (uids + known + max(uids, known)))


def check_disk(folder: Path, needed: int) -> None:
    """Raise `IncompleteError` if `folder` has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise IncompleteError(
            f"the plan may need {needed / 1e9:,.1f} GB below {folder}, and {free / 1e9:,.1f} GB "
            "are free",
            hint="make room there, or put the state folder on another disk",
        )
