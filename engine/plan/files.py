"""Files that hold uids: written whole or not at all, and for their owner's eyes only."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.errors import CohortSyncError, LedgerError, StateFullError


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, in no order; none if it is not there.

    Raises `OSError` where it may not be read: `Path.glob` would yield nothing.
    """
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there, on the disk, once the block ends well, and not before.

    Raises `StateFullError` where the disk is full, `LedgerError` where it can't be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            _sync(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CohortSyncError:
    if error.errno in _FULL:
        return StateFullError(
            f"{path} cannot be written: the disk is full",
            hint="make room on that disk, then run the same command again",
        )
    return LedgerError(
        f"{path} cannot be written: {error.strerror or error}",
        hint="check the permissions of that folder",
    )


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises `OSError`."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
