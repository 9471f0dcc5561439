"""Temporary copies of what has to be read twice, and the errors of writing them.

A copy may hold uids. Each one is made by `make_copy`, in `copies_folder`, with mode 0600. It has no
name, so that nothing is left of it when the process ends; only where a file system cannot make a
file without a name, it bears `COPY_PREFIX` for an instant. The copies of fsspec's own caches, such
as `simplecache::`, are not made here.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.errors import SourceUnavailableError
from engine.storage.paths import copies_folder

COPY_PREFIX = "cohortsync-copy-"
"""Begins the name of a temporary copy for as long as it has one."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_NO_FOLDER = "No usable temporary directory"
"""How Python's own message begins where no folder for temporary files is found."""

SpooledFile = tempfile.SpooledTemporaryFile[bytes]


def make_copy(bytes_in_memory: int = 1) -> SpooledFile:
    """Return a temporary copy to write to; once it is larger than `bytes_in_memory` it is a file.

    That file is made by a write, which raises `OSError` where it cannot be: `TMPDIR`, if it is
    set, is used even where it cannot be written to.
    """
    folder = os.environ.get("TMPDIR") or None
    return tempfile.SpooledTemporaryFile(bytes_in_memory, dir=folder, prefix=COPY_PREFIX)


def close_quietly(file: SpooledFile) -> None:
    """Close a temporary copy; an error of writing the rest of it does not matter any more."""
    with suppress(OSError):
        file.close()


@contextmanager
def translated_copy_errors() -> Iterator[None]:
    """Raise `SourceUnavailableError` for any `OSError` in the block, which only writes a copy."""
    try:
        yield
    except OSError as error:
        raise copy_failed(error) from error


def is_about_copy(error: OSError) -> bool:
    """Return whether an error of a backend is one of its own temporary copy, for lack of room."""
    return error.errno in _NO_ROOM or _NO_FOLDER in str(error)


def copy_failed(error: OSError) -> SourceUnavailableError:
    """Return the error that says why no temporary copy can be written, and where."""
    try:
        folder = str(copies_folder())
    except OSError:
        folder = "any folder"
    reason = os.strerror(error.errno) if error.errno else "no such folder can be written"
    where = f"TMPDIR={folder}" if os.environ.get("TMPDIR") else f"{folder} (TMPDIR is not set)"
    return SourceUnavailableError(
        f"no temporary copy of the export can be written to {where}: {reason}",
        hint="set TMPDIR to a folder with room for it, then run the same command again",
    )
