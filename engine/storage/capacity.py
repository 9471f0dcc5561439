"""Estimates the memory and disk of a plan, and the rows that it processes at a time."""

import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

from engine.errors import IncompleteError
from engine.storage.settings import PlanningSettings

MEGABYTE = 1_000_000
_LEAST_MEGABYTES = 64
_LEAST_A_THREAD = 32
"""Megabytes; with less, a thread would read row groups of a large snapshot more than once."""
_MEGABYTES_A_THREAD = 150
"""Address space of a thread: its stack and a memory arena."""
_TIMES_THE_ROWS = 3
"""The memory of a thread that processes rows, as a multiple of theirs: hashes, places, copies. With
more, 64 MB would not suffice for 100 million uids without dividing their spool again."""
_MOST_TOGETHER = 1_000 * MEGABYTE
"""Arrow's arrays hold at most 2^31 bytes of uids; more memory does not make anything faster."""
_BYTES_A_STORED_ROW = 9
"""Largest size of a row of an operation or a snapshot besides its uid."""
_BYTES_A_ROW_NUMBER = 4
"""Additional size of an add, for its place in the export; measured: 2.5 for 10 million."""


def threads_for(settings: PlanningSettings) -> int:
    """Return the number of threads that compute, so that each has a useful share of memory."""
    threads = settings.threads or os.cpu_count() or 1
    return max(1, min(threads, settings.memory_megabytes // _LEAST_A_THREAD))


def partition_bytes(settings: PlanningSettings, threads: int) -> int:
    """Return how many bytes of rows may be processed at a time by each of so many threads."""
    share = settings.memory_megabytes * MEGABYTE // (_TIMES_THE_ROWS * threads + 2)
    return min(share, _MOST_TOGETHER)


def affordable(settings: PlanningSettings) -> PlanningSettings:
    """Return the settings reduced to a limit on address space (`ulimit -v`).

    Raises `IncompleteError` if the limit is too small for a plan.
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
    """Return the bytes of address space in use by this process; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def disk_needed(uids: int, uid_bytes: int, known: int) -> int:
    """Return an estimate of the bytes of disk of a plan, besides the staged export.

    `uids` is the number of the export's rows with a uid, `uid_bytes` their total size, `known` the
    number of the snapshot's rows. The estimate is sufficient for the first run, which adds all
    uids, and for any run that changes no more rows than the larger side has.
    """
    a_row = uid_bytes / max(uids, 1) + _BYTES_A_STORED_ROW
    rows = uids + known + max(uids, known)
    return round(a_row * rows + uids * _BYTES_A_ROW_NUMBER)


def check_disk(folder: Path, needed: int) -> None:
    """Raise `IncompleteError` if `folder` has fewer free bytes than `needed`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise IncompleteError(
            f"the plan may need {needed / 1e9:,.1f} GB below {folder}, and {free / 1e9:,.1f} GB "
            "are free",
            hint="make room there, or put the state folder on another disk",
        )
