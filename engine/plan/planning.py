"""How much memory and disk a plan takes, and into how many shares it is parted."""

import shutil
from pathlib import Path

from engine.errors import IncompleteError
from engine.plan.settings import PlanningSettings

MEGABYTE = 1_000_000
_BYTES_A_ROW = 48
"""What a row of a join takes besides its uid, as its memory limit counts; beyond it, it spills."""
_BYTES_A_STORED_ROW = 9
"""What a row of a leg or a snapshot takes besides its uid, at most."""


def shares_for(rows: int, uid_bytes: int, settings: PlanningSettings) -> int:
    """Return into how many shares uids are parted, so that a join of one share fits into memory.

    `rows` and `uid_bytes` are of both sides together.
    """
    needed = uid_bytes + rows * _BYTES_A_ROW
    return max(1, -(-needed // (settings.memory_megabytes * MEGABYTE)))


def disk_needed(uids: int, uid_bytes: int, known: int) -> int:
    """Return about how many bytes of disk a plan takes on top of the staged export.

    `uids` are the export's rows with a uid, of `uid_bytes` together, `known` the snapshot's rows.
    It does for the first night, when everything is added, and for any night that changes no more
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
