"""Files that are written atomically and readable by their owner only."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from engine.errors import CohortSyncError, LedgerError, StateFullError, UsageError
from engine.storage.paths import TemporaryPurpose
from engine.storage.temporary import part_file, temporary_folder


@contextmanager
def new_file(path: Path, *, replaces: bool = True) -> Iterator[BinaryIO]:
    """Write a file that exists, durably, only after the block ends without an error.

    Until then it has a random name in the same folder. With `replaces`, it replaces a file or link
    at `path`; without, that is left unchanged.

    Raises `StateFullError` if the disk is full, `LedgerError` if the file can't be written,
    `UsageError` if `path` exists and `replaces` is False.
    """
    try:
        with _new_file(path, replaces=replaces) as file:
            yield file
    except FileExistsError as error:
        raise UsageError(f"{path} exists already", hint="name a new file") from error
    except OSError as error:
        raise unwritable(path, error) from error


@contextmanager
def _new_file(path: Path, *, replaces: bool) -> Iterator[BinaryIO]:
    """Write a file as `new_file` does; raises `OSError`."""
    with part_file(path.parent) as (descriptor, part):
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            yield file
        os.fsync(descriptor)
        if replaces:
            part.replace(path)
        else:
            _put(part, path)
    _sync(path.parent)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, unordered; none if the folder does not exist.

    Raises `OSError` if the folder is not readable; `Path.glob` would yield nothing.
    """
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


@contextmanager
def work_folder(parent: Path, purpose: TemporaryPurpose) -> Iterator[Path]:
    """Make a temporary folder in `parent`; see `temporary_folder`. Raises as `new_file` does."""
    with ExitStack() as made:
        try:
            folder = made.enter_context(temporary_folder(parent, purpose))
        except OSError as error:
            raise unwritable(parent, error) from error
        yield folder


def keep_copy(path: Path, target: Path) -> None:
    """Copy a file to `target` in its folder, or to the first free one of `target.1`, `target.2` ….

    No file is overwritten, and content that a copy already has is not copied again. Raises
    `OSError`.
    """
    name, number = target.name, 0
    while os.path.lexists(target):
        with suppress(OSError):
            if digest_of(target) == digest_of(path):
                return
        number += 1
        target = path.with_name(f"{name}.{number}")
    with path.open("rb") as file, _new_file(target, replaces=False) as copy:
        shutil.copyfileobj(file, copy)


def rename_durably(path: Path, target: Path) -> None:
    """Rename a file that was written durably; raises as `new_file` does."""
    try:
        path.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise unwritable(target, error) from error


def _put(part: Path, path: Path) -> None:
    """Give a file its final name; raises `FileExistsError` if that exists."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError from error
        part.rename(path)


_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})
"""Errors of file systems without hard links."""


def unwritable(path: Path, error: OSError) -> CohortSyncError:
    """Return the error for a file or folder that can't be written."""
    if is_full(error):
        hint = "make room on that disk, then run the same command again"
        return StateFullError(f"{path} cannot be written: the disk is full", hint=hint)
    hint = "check that its folder is there and may be written"
    return LedgerError(f"{path} cannot be written: {error.strerror or error}", hint=hint)


def is_full(error: OSError) -> bool:
    """Return whether an error means a full disk, or a limit on file sizes."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def reading_file(path: Path) -> Iterator[int]:
    """Open a regular file for reading; yield its descriptor. Raises `OSError`."""
    # Without O_NONBLOCK, the opening of a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def name_of(descriptor: int) -> str:
    """Return the system's name of an open file, which no reader interprets as a pattern.

    Readers do not receive paths: PyArrow interprets `s3:` as a server.
    """
    return f"{DESCRIPTORS}/{descriptor}"


DESCRIPTORS = "/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd"


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises `OSError`."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def sync_folders(root: Path) -> None:
    """Make the names in a folder and its subfolders durable. Raises `OSError`."""
    for parent, _, _ in os.walk(root):
        _sync(Path(parent))


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Raise as `new_file` does if the block cannot write a file or folder in `folder`."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
