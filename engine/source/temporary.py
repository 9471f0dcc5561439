"""Temporary files for what has to be read twice, and what to say where there is no room for them.

They have mode 0600 and no name.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from engine.errors import SourceUnavailableError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_NO_FOLDER = "No usable temporary directory"
"""How Python's own message begins where no folder for temporary files is found."""


@contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """Lend a new temporary file in the folder `TMPDIR`, which is not passed over if it is set.

    Raises `SourceUnavailableError`, which names `TMPDIR`.
    """
    with told_of_tmpdir():
        file = tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or None)  # noqa: SIM115 - lent below
    try:
        yield file
    finally:
        close_quietly(file)


def spooled_file(bytes_in_memory: int) -> "tempfile.SpooledTemporaryFile[bytes]":
    """Return a file in memory that becomes a temporary one beyond `bytes_in_memory`."""
    folder = os.environ.get("TMPDIR") or None
    return tempfile.SpooledTemporaryFile(bytes_in_memory, dir=folder)


def close_quietly(file: "IO[bytes] | tempfile.SpooledTemporaryFile[bytes]") -> None:
    """Close a temporary file; what is not written yet is of no use to anybody."""
    with suppress(OSError):
        file.close()


@contextmanager
def told_of_tmpdir() -> Iterator[None]:
    """Raise `SourceUnavailableError` for any `OSError` in the block, which only writes a copy."""
    try:
        yield
    except OSError as error:
        raise copy_failed(error) from error


def is_about_copy(error: BaseException) -> bool:
    """Tell whether an error of a backend is one of its temporary copy: reading needs no room."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _NO_ROOM or _NO_FOLDER in str(error)


def copy_failed(error: OSError) -> SourceUnavailableError:
    """Say that a temporary copy cannot be written, and where it was to go."""
    folder = os.environ.get("TMPDIR") or _default_folder()
    reason = os.strerror(error.errno) if error.errno else "no such folder can be written"
    where = f"TMPDIR={folder}" if os.environ.get("TMPDIR") else f"{folder} (TMPDIR is not set)"
    return SourceUnavailableError(
        f"no temporary copy of the export can be written to {where}: {reason}",
        hint="set TMPDIR to a folder with room for it, then run the same command again",
    )


def _default_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "any folder"
