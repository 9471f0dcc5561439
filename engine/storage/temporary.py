"""Makes temporary folders and files with an owner, and removes those whose owner has ended.

A name does not identify the program that made a file. A process id does not identify a running
process, because two containers may have the same ids. So a temporary folder contains a file of a
known text, on which its owner holds a lock. The kernel releases the lock when the owner ends. Only
folders with that file and without a lock are removed. Links are not followed.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from tempfile import mkdtemp, mkstemp

from engine.storage.paths import (
    PART,
    PART_PREFIX,
    PART_SUFFIX,
    TEMPORARY_PREFIX,
    TemporaryPurpose,
)

MARK = "owner.lock"
"""The file in a temporary folder on which the owner holds a lock."""
MARK_TEXT = b"temporary folder of cohortsync, deleted when nobody holds the lock on this file\n"
_DRAFT = "owner.draft"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def temporary_folder(parent: Path, purpose: TemporaryPurpose) -> Iterator[Path]:
    """Make a folder in `parent`, readable by its owner only, and delete it when the block ends.

    `parent` is made if it does not exist. Raises `OSError` if the folder can't be made.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f"{TEMPORARY_PREFIX}{purpose}-", dir=parent))
    with ExitStack() as opened:
        opened.callback(_remove_empty, folder)
        descriptor = os.open(folder, _FOLDER)
        opened.callback(os.close, descriptor)
        opened.callback(os.close, _mark(descriptor))
        try:
            yield folder
        finally:
            with suppress(OSError):
                _remove(folder, descriptor)


@contextmanager
def part_file(folder: Path) -> Iterator[tuple[int, Path]]:
    """Make a file in `folder` for writing; yield its descriptor, and its path until it is renamed.

    It is deleted when the block ends, if it still has that path. Raises `OSError`.
    """
    descriptor, name = mkstemp(prefix=PART_PREFIX, suffix=PART_SUFFIX, dir=folder)
    path = Path(name)
    try:
        with suppress(OSError):  # On a file system without locks, no other process deletes it.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor, path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def remove_abandoned_folders(parent: Path) -> None:
    """Delete the temporary folders in `parent` whose owners have ended; never raises.

    Folders of other users and folders without a mark are kept.
    """
    for path in _entries(parent):
        if path.name.startswith(TEMPORARY_PREFIX):
            with suppress(OSError):
                _remove_free_folder(path)


def remove_abandoned_parts(folder: Path) -> None:
    """Delete abandoned files of `part_file` in one of the program's own folders; never raises."""
    for path in _entries(folder):
        if PART.fullmatch(path.name):
            with suppress(OSError):
                _remove_free_part(path)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove_empty(folder: Path) -> None:
    """Delete a folder that could not be marked."""
    with suppress(OSError):
        folder.rmdir()


def _mark(folder: int) -> int:
    """Put the locked mark into a folder, given its descriptor; return the mark's descriptor."""
    descriptor = os.open(_DRAFT, _NEW, 0o600, dir_fd=folder)
    try:
        os.write(descriptor, MARK_TEXT)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # A full disk, or a file system without locks: no other process deletes it without the mark.
        return descriptor
    # Renamed after it is locked, so that a running owner's mark is never unlocked.
    os.rename(_DRAFT, MARK, src_dir_fd=folder, dst_dir_fd=folder)
    return descriptor


def _remove_free_folder(folder: Path) -> None:
    """Delete a folder if it is this user's, marked and unlocked; else raises `OSError`."""
    with ExitStack() as opened:
        descriptor = os.open(folder, _FOLDER)
        opened.callback(os.close, descriptor)
        mark = os.open(MARK, _EXISTING, dir_fd=descriptor)
        opened.callback(os.close, mark)
        is_mark = _is_own_file(mark) and os.pread(mark, 1024, 0) == MARK_TEXT
        if is_mark and os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder, descriptor)


def _remove_free_part(path: Path) -> None:
    """Delete an unfinished file if it is this user's and unlocked; else raises `OSError`."""
    descriptor = os.open(path, _EXISTING)
    try:
        if _is_own_file(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def _is_own_file(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _remove(folder: Path, descriptor: int) -> None:
    """Delete an open folder and its content; the mark is last, so that the folder can be found."""
    for _, folders, files, inside in os.fwalk(".", topdown=False, dir_fd=descriptor):
        for name in folders:
            is_folder = S_ISDIR(os.lstat(name, dir_fd=inside).st_mode)
            (os.rmdir if is_folder else os.unlink)(name, dir_fd=inside)
        for name in files:
            if name != MARK or not os.path.samestat(os.fstat(inside), os.fstat(descriptor)):
                # A thread that a stop has ended may delete its own unfinished file meanwhile.
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=inside)
    with suppress(FileNotFoundError):
        os.unlink(MARK, dir_fd=descriptor)
    folder.rmdir()
