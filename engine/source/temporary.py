"""Makes temporary copies of data that is read twice, and translates errors of writing them.

A copy may hold uids. `make_copy` makes each one in `copies_folder` with mode 0600. It has no name,
so that nothing remains when the process ends. On a file system that cannot make a file without a
name, it briefly has a name with `COPY_PREFIX`. The copies of fsspec's own caches, such as
`simplecache::`, are not made here.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.errors import SourceUnavailableError
from engine.storage.paths import copies_folder

COPY_PREFIX = "cohortsync-copy-"
"""The prefix of the name of a temporary copy, while it has a name."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_NO_FOLDER = "No usable temporary directory"
"""The start of Python's own message if no folder for temporary files is found."""

SpooledFile = tempfile.SpooledTemporaryFile[bytes]


def make_copy(bytes_in_memory: int = 1) -> SpooledFile:
    """Return a temporary copy to write to; above `bytes_in_memory` bytes it becomes a file.

    A write makes that file, and raises `OSError` if that fails: `TMPDIR`, if set, is used even if
    it is not writable.
    """
    folder = os.environ.get("TMPDIR") or None
    return tempfile.SpooledTemporaryFile(bytes_in_memory, dir=folder, prefix=COPY_PREFIX)


def close_quietly(file: SpooledFile) -> None:
    """Close a temporary copy; ignore an error of writing the rest of it."""
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
    """Return whether a backend's error is a lack of room for its own temporary copy."""
    return error.errno in _NO_ROOM or _NO_FOLDER in str(error)


def copy_failed(error: OSError) -> SourceUnavailableError:
    """Return the error with the reason why no temporary copy can be written, and its folder."""
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
