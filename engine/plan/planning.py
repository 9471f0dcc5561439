"""How much of the machine a plan may take, and DuckDB held to that."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from engine.errors import IncompleteError, StateFullError
from engine.plan.settings import PlanningSettings

MEGABYTE = 1_000_000
_SPILL_FACTOR = 1.3
"""Spilled bytes for each byte of uids on both sides, 8 bytes a row included; measured 1.15."""


@contextmanager
def planner(settings: PlanningSettings, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB within the limits; it spills below `folder` unless told otherwise.

    Raises `StateFullError` where the disk is full, `IncompleteError` where memory does not do.
    """
    spill = (Path(settings.spill_dir) if settings.spill_dir else folder) / f"spill-{os.getpid()}"
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


def disk_needed(uids: int, uid_bytes: int, known: int, known_bytes: int) -> int:
    """Return the bytes of disk that a plan takes at most, its legs and the new snapshot included.

    `uids` are the export's rows with a uid, `known` those of the snapshot.
    """
    both = uid_bytes + known_bytes
    spill = _SPILL_FACTOR * (both + 8 * (uids + known))
    return round(spill + 2 * both)


def check_disk(folder: Path, needed: int) -> None:
    """Raise `IncompleteError` if `folder` has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise IncompleteError(
            f"the plan may need {needed / 1e9:,.1f} GB below {folder}, and {free / 1e9:,.1f} GB "
            "are free",
            hint="make room there, or name another disk by `plan.spill_dir`",
        )


def literal(path: Path) -> str:
    """Return a path as SQL quotes it, where no parameter may stand."""
    return "'" + str(path).replace("'", "''") + "'"
