"""How much of the machine a plan may take, and DuckDB held to that."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import ConfigError, IncompleteError, StateFullError
from engine.plan.settings import PlanningSettings

if TYPE_CHECKING:
    import duckdb

MEGABYTE = 1_000_000
_BYTES_A_ROW = 48
"""What a row of a join takes besides its uid, as its memory limit counts; beyond it, it spills."""
_BYTES_A_STORED_ROW = 9
"""What a row of a leg or a snapshot takes besides its uid, at most."""


@contextmanager
def planner(settings: PlanningSettings, folder: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open DuckDB within the limits; it spills below `folder` unless told otherwise.

    Raises `StateFullError` where the disk is full, `IncompleteError` where memory does not do,
    `ConfigError` where it can't spill.
    """
    import duckdb  # noqa: PLC0415 - large, and only plans need it

    where = Path(settings.spill_dir) if settings.spill_dir else folder
    try:
        spill = passing_folder(where, "spill")
    except OSError as error:
        raise ConfigError(
            f"`plan.spill_dir`: {where} cannot be written ({error.strerror})",
            hint="name a folder on a disk with room",
        ) from error
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{settings.memory_megabytes}MB",
            "threads": settings.threads or os.cpu_count() or 1,
            "temp_directory": str(spill),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    try:
        yield connection
    except duckdb.OutOfMemoryException as error:
        # DuckDB tells of a full disk by this exception, too.
        if "temp" in str(error) and "directory" in str(error):
            raise StateFullError(
                f"no room left to spill into {spill}",
                hint="make room there, or name another disk by `plan.spill_dir`",
            ) from error
        raise IncompleteError(
            f"the plan does not fit into {settings.memory_megabytes} MB",
            hint="raise `plan.memory_megabytes`, or lower `plan.threads`",
        ) from error
    except duckdb.IOException as error:
        raise StateFullError(
            f"the plan cannot be written below {folder}: {str(error).partition(chr(10))[0]}",
            hint="make room on that disk, then run the same command again",
        ) from error
    finally:
        connection.close()
        shutil.rmtree(spill, ignore_errors=True)


def passing_folder(folder: Path, purpose: str) -> Path:
    """Make a folder for this process, for its owner's eyes only, that is deleted when it is done.

    What a process that died has left is found by `abandoned`. Raises `OSError`.
    """
    made = folder / f"{purpose}-{os.getpid()}"
    made.mkdir(mode=0o700, parents=True, exist_ok=True)
    made.chmod(0o700)
    return made


def abandoned(folder: Path) -> list[Path]:
    """Return the folders that processes which are no more have left in `folder`."""
    if not Path("/proc/self").exists():
        return []
    found = ((path, path.name.rpartition("-")[2]) for path in folder.glob("*-*"))
    return [
        path
        for path, pid in found
        if pid.isdigit() and path.is_dir() and not Path("/proc", pid).exists()
    ]


def shares_for(rows: int, uid_bytes: int, settings: PlanningSettings) -> int:
    """Return into how many shares uids are parted, so that a join of one share fits into memory.

    `rows` and `uid_bytes` are of both sides together.
    """
    needed = uid_bytes + rows * _BYTES_A_ROW
    return max(1, -(-needed // (settings.memory_megabytes * MEGABYTE)))


def share(path: Path, shares: int, which: int) -> str:
    """Return, as SQL reads it, the part of a Parquet file whose uids fall to one of the shares."""
    part = f" WHERE hash(uid) % {shares} = {which}" if shares > 1 else ""
    return f"(FROM read_parquet({literal(path)}){part})"


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


def literal(path: Path) -> str:
    """Return a path as SQL quotes it, where no parameter may stand."""
    return "'" + str(path).replace("'", "''") + "'"
