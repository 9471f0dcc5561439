"""Locks on files, which the kernel releases when the process ends.

A run holds the workspace's lock while it sends, and its cohort's lock from its start to its end. A
process takes a cohort's lock first. No lock file is ever deleted: a process may be waiting for it.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import IncompleteError, LedgerError, LockHeldError
from engine.ledger.state_folder import (
    describe_process,
    is_still,
    make_folder,
    state_gone,
    this_process,
    writing_to,
)
from engine.model.cohort import CohortKey
from engine.storage.paths import LOCKS_NAME, cohort_lock_path

LOCK_NAME = "lock"
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 0.3
"""How long to try even without a wait: a check of a lock's holder takes the lock for a moment."""
_BRIEF_GRACE_SECONDS = 5.0
"""The same if the holder works on no run, but ends those of a dead process, or prunes."""
_BRIEF = "brief"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a lock."""

    seconds: float = 0.0
    stop_reason: Callable[[], str | None] = lambda: None
    """Returns why the wait ends, once it is stopped."""
    waiting: Callable[[str], None] = lambda _: None
    """Called when a wait begins, with the holder: "process 7 on HOST since …"."""


NO_PATIENCE = Patience()


class FileLock:
    """A lock on one or two files; the last file names the holder.

    One object may be acquired several times; it holds the lock until it is released as often. Two
    objects for the same files exclude each other, within one process too.
    """

    def __init__(
        self, folder: Path, files: Sequence[Path], subject: str, *, is_brief: bool = False
    ) -> None:
        """Lock `files` in `folder`, or `folder` itself; errors name the lock `subject`.

        `is_brief` tells others that it is not held for a run, so that they try for longer.
        """
        self._folder = folder
        self._files = files
        self._subject = subject
        self._is_brief = is_brief
        self._holders = 0
        self._descriptors = ExitStack()
        self.times_taken = 0
        """How often the lock was taken: between two numbers another process may have held it."""

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._holders > 0

    async def acquire(self, patience: Patience) -> None:
        """Wait until the lock is held.

        Raises `LockHeldError`, which names the holder, when it is not free in time,
        `IncompleteError` when the wait is stopped, `StateGoneError` if the folder is missing, and
        `LedgerError` if it cannot be written.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        is_announced = False
        while not self.try_acquire():
            if (reason := patience.stop_reason()) is not None:
                raise IncompleteError(
                    f"{reason} while it waited for {_holder_in(self._files[-1])}",
                    hint="run the same command again to go on",
                )
            waited = loop.time() - begun
            grace = _BRIEF_GRACE_SECONDS if _is_brief(self._files[-1]) else _GRACE_SECONDS
            if waited >= max(patience.seconds, grace):
                raise LockHeldError(
                    f"{self._subject} is in use by {_holder_in(self._files[-1])}",
                    hint="pass --wait SECONDS to wait for it, or run the command again later",
                )
            if waited >= grace and not is_announced:
                patience.waiting(_holder_in(self._files[-1]))
                is_announced = True
            await asyncio.sleep(_POLL_SECONDS)

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it is held. Raises as `acquire` does."""
        if not self._holders:
            with ExitStack() as opened, writing_to(self._folder):
                try:
                    is_taken = self._take(opened)
                except FileNotFoundError as error:
                    raise state_gone(self._folder) from error
                if not is_taken:
                    return False
                self._descriptors = opened.pop_all()
            self.times_taken += 1
        self._holders += 1
        return True

    def _take(self, opened: ExitStack) -> bool:
        flags = os.O_RDWR | os.O_CREAT
        descriptors = [
            _open(file, opened, _FOLDER if file == self._folder else flags) for file in self._files
        ]
        if not all(_lock(each, fcntl.LOCK_EX) for each in descriptors):
            return False  # The files that were locked are closed, which unlocks them.
        for file, descriptor in zip(self._files, descriptors, strict=True):
            if not is_still(file, os.fstat(descriptor)):
                if file == self._folder:
                    raise state_gone(self._folder)
                return False  # Another process removed it; a third may hold the one in its place.
        os.truncate(descriptors[-1], 0)
        holder = this_process() | ({_BRIEF: True} if self._is_brief else {})
        os.pwrite(descriptors[-1], json.dumps(holder).encode(), 0)
        return True

    def release(self) -> None:
        """Release the lock once; does nothing if it is not held."""
        self._holders = max(0, self._holders - 1)
        if not self._holders:
            self._descriptors.close()


_FOLDER = os.O_RDONLY | os.O_DIRECTORY


def sending_lock(folder: Path) -> FileLock:
    """Return the lock of a workspace, which one process at a time holds to send.

    Both the folder and the file `lock` in it are locked, so a process that deletes or replaces that
    file does not get the lock. Programs of version 0.1 hold it as long as they run.
    """
    return FileLock(folder, (folder, folder / LOCK_NAME), "this workspace's ledger")


def cohort_lock(folder: Path, key: CohortKey, *, is_brief: bool = False) -> FileLock:
    """Return the lock of a cohort in a workspace's folder; a shadow shares it with its cohort.

    Creates the folder of such locks; raises `LedgerError` if it cannot be created.
    """
    path = cohort_lock_path(folder, key)
    make_folder(path.parent)
    return FileLock(folder, (path,), f"cohort {key.cohort_id}", is_brief=is_brief)


@asynccontextmanager
async def sole_writer(folder: Path, patience: Patience = NO_PATIENCE) -> AsyncIterator[None]:
    """Hold the workspace's lock during the block; raises as `FileLock.acquire`."""
    lock = sending_lock(folder)
    await lock.acquire(patience)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def sole_writer_at_once(folder: Path) -> Iterator[bool]:
    """Hold the workspace's lock during the block, if it is free; yield whether it is held."""
    lock = sending_lock(folder)
    lock.try_acquire()
    try:
        yield lock.is_held
    finally:
        lock.release()


@contextmanager
def cohort_at_once(folder: Path, key: CohortKey) -> Iterator[bool]:
    """Hold a cohort's lock during the block, if it is free; yield whether it is held.

    The block is short: a run of another process waits for its end, also one that must not wait.
    """
    lock = cohort_lock(folder, key, is_brief=True)
    lock.try_acquire()
    try:
        yield lock.is_held
    finally:
        lock.release()


@contextmanager
def all_at_once(folder: Path) -> Iterator[str | None]:
    """Hold all locks in a workspace's folder during the block, if all are free.

    Yields None if they are held, else a description of a process that holds one of them.
    """
    paths = sorted((folder / LOCKS_NAME).glob("*/*"))
    locks = [sending_lock(folder)]
    locks += [FileLock(path.parent, (path,), "a cohort") for path in paths]
    with ExitStack() as held:
        for lock, path in zip(locks, [folder / LOCK_NAME, *paths], strict=True):
            if not lock.try_acquire():
                holder = _holder_in(path)
                break
            held.callback(lock.release)
        else:
            holder = None
        yield holder


def is_held(folder: Path) -> bool:
    """Return whether a living process sends from this folder."""
    return holder_of(folder) is not None


def holder_of(folder: Path) -> str | None:
    """Return a description of the living process that sends from this folder, or None.

    Raises `LedgerError` if the folder or its lock may not be read, since the holder is then
    unknown.
    """
    return _holder_of(folder, folder / LOCK_NAME)


def cohort_holder(folder: Path, key: CohortKey) -> str | None:
    """Return a description of the living process that works on a cohort, as `holder_of` does."""
    return _holder_of(None, cohort_lock_path(folder, key))


def _holder_of(folder: Path | None, path: Path) -> str | None:
    descriptors: list[int] = []
    with ExitStack() as opened:
        try:
            if folder is not None:
                descriptors.append(_open(folder, opened, _FOLDER))
            with suppress(FileNotFoundError):  # It may have been deleted.
                descriptors.append(_open(path, opened, os.O_RDONLY))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LedgerError(
                f"{error.filename} cannot be read: {error.strerror}",
                hint="run it as the user who owns the state folder, or pass --state to use another",
            ) from error
        is_free = all(_lock(each, fcntl.LOCK_SH) for each in descriptors)
    return None if is_free else _holder_in(path)


def _open(path: Path, opened: ExitStack, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_brief(path: Path) -> bool:
    try:
        return _BRIEF in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _holder_in(path: Path) -> str:
    try:
        return describe_process(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
