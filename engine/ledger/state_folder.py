"""The folder of a ledger: whether it can hold one, and the lock of its only writer."""

import asyncio
import errno
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from engine.errors import LedgerError, LockHeldError, StateFullError, StateGoneError
from engine.model.endpoint import Endpoint
from engine.storage.paths import ledger_folder

LOCK_NAME = "lock"
_LOCK_POLL_SECONDS = 0.1
_GRACE_SECONDS = 0.3
"""How long a command tries that does not wait: a look at who holds the lock takes it, too."""

# SQLite's WAL needs memory shared between processes, and flock a kernel that both ask: network file
# systems promise neither.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)

_OCTAL = re.compile(r"\\([0-7]{3})")
"""How the table of mounts writes blanks and backslashes."""


@dataclass(frozen=True, slots=True)
class WorkspaceFolder:
    """Where a ledger stands, and how it spells its endpoint."""

    folder: Path
    endpoint: str

    @classmethod
    def of(cls, state: Path, endpoint: Endpoint, workspace: str) -> Self:
        """Return the place for a workspace at an endpoint, one for all spellings of that.

        The folder of an older version may have another spelling, and keeps it: so a ledger that was
        lost from it is missed there.
        """
        for spelling in (endpoint.url, endpoint.identity, *endpoint.other_spellings):
            folder = ledger_folder(state, spelling, workspace)
            if os.path.isdir(folder):  # noqa: PTH112 - no error where it is unreadable
                return cls(folder, spelling)
        return cls(ledger_folder(state, endpoint.identity, workspace), endpoint.identity)


def make_folder(folder: Path) -> None:
    """Create a folder for a ledger or its files; refuse a network file system.

    It is its owner's only, as is each folder above it that is made with it; those that exist keep
    their mode. Nothing is left behind where this is killed. Raises `LedgerError` where it cannot be
    written or lies on a network file system.
    """
    refuse_network_file_system(folder)
    with _writing(folder):
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir(mode=0o700)
                each.chmod(0o700)  # whatever the umask has taken
        try_writing(folder)


def close_to_others(folder: Path) -> None:
    """Let a workspace's folder be its owner's only: older versions left that to the umask.

    The state folder itself keeps its mode: it may have been there before.
    """
    for each in (folder, folder.parent):
        with suppress(OSError):  # It may be another user's.
            each.chmod(0o700)


def try_writing(folder: Path) -> None:
    """Write and lock a file without a name in a folder; raises `OSError` where that fails."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_NAMELESS_FILES:
            raise
        # A file system without unnamed files: only its permissions are checked.
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder)) from None
        return
    try:
        os.write(descriptor, b"\n")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


_NO_NAMELESS_FILES = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise the file system's errors as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StateFullError(
                f"the disk under the state folder {folder} is full",
                hint="make room on that disk, then run the same command again",
            ) from error
        raise LedgerError(
            f"the state folder {folder} cannot be written: {error.strerror}",
            hint="set [state] dir in the configuration, or pass --state",
        ) from error


def refuse_unwritable(folder: Path) -> None:
    """Raise `LedgerError` as `make_folder` would, and make nothing."""
    refuse_network_file_system(folder)
    with _writing(folder):
        place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def refuse_network_file_system(folder: Path) -> None:
    """Raise `LedgerError` if the folder lies on a file system that cannot keep a ledger."""
    kind = file_system(folder, _mounts())
    if kind in _NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"the state folder {folder} lies on a network file system ({kind}), where a ledger "
            "can be neither locked nor shared",
            hint="set [state] dir to a folder on a local disk",
        )


def file_system(folder: Path, mounts: str) -> str | None:
    """Return the kind of file system that holds `folder`, by Linux' table of mounts.

    `mounts` is the text of /proc/self/mountinfo; a folder need not exist yet. None if unknown.
    """
    wanted = str(folder.resolve())
    best, kind = "", None
    for line in mounts.splitlines():
        fields, _, tail = line.partition(" - ")
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, tail.split(" ")[0]
    return kind


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


@asynccontextmanager
async def sole_writer(
    folder: Path,
    wait_seconds: float,
    is_stopped: Callable[[], bool] = lambda: False,
    waiting: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[None]:
    """Hold the workspace's lock: one process a workspace and state folder at a time.

    The folder itself is locked, and the file `lock` in it, which names the holder: deleting or
    replacing that file opens no second lock. The kernel frees both when their holder ends.
    `waiting` is called when a wait has begun, with a description of the holder: "process 7 on HOST
    since …". Raises `LockHeldError`, naming the holder, when it is not free within `wait_seconds`,
    or the wait is stopped, and `LedgerError` if the folder cannot be written.
    """
    begun = time.monotonic()
    is_told = False
    with ExitStack() as held:
        with _writing(folder):
            descriptors = _open_locks(folder, held, os.O_RDWR | os.O_CREAT)
        while not _lock_all(descriptors, fcntl.LOCK_EX, folder):
            waited = time.monotonic() - begun
            if waited >= max(wait_seconds, _GRACE_SECONDS) or is_stopped():
                raise LockHeldError(
                    f"this workspace's ledger is in use by {_describe_holder(folder / LOCK_NAME)}",
                    hint="pass --wait SECONDS to wait for it, or run the command again later",
                )
            if waited >= _GRACE_SECONDS and not is_told:
                waiting(_describe_holder(folder / LOCK_NAME))
                is_told = True
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        if not is_still(folder, os.fstat(descriptors[0])):
            raise state_gone(folder)
        with _writing(folder):
            os.truncate(descriptors[-1], 0)
            os.pwrite(descriptors[-1], json.dumps(this_process()).encode(), 0)
        yield


def is_still(path: Path, found: os.stat_result) -> bool:
    """Return whether a path still leads to the file of the result `found` of `stat`."""
    try:
        return os.path.samestat(path.stat(), found)
    except OSError:
        return False


def state_gone(folder: Path) -> StateGoneError:
    """Return the error for a folder that was removed or replaced while it was in use."""
    return StateGoneError(
        f"the state folder {folder} was removed or replaced while it was in use",
        hint="put back what it held, if you can; its ledger is written anew where nothing stands "
        "in its place. Then run the same command again",
    )


def this_process() -> dict[str, Any]:
    """Return what names this process to others, as plain values."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextmanager
def sole_writer_at_once(folder: Path) -> Iterator[bool]:
    """Hold the workspace's lock, if it is free; say whether it is held."""
    with ExitStack() as held:
        descriptors = _open_locks(folder, held, os.O_RDWR | os.O_CREAT)
        yield _lock_all(descriptors, fcntl.LOCK_EX, folder)


def is_held(folder: Path) -> bool:
    """Say whether a living process works in this folder."""
    return holder_of(folder) is not None


def holder_of(folder: Path) -> str | None:
    """Return words for the living process that works in this folder, if there is one.

    Raises `LedgerError` where the folder or its lock may not be read, so that this is unknown.
    """
    with ExitStack() as held:
        try:
            descriptors = [_open_folder(folder, held)]
            with suppress(FileNotFoundError):  # It may have been deleted.
                descriptors.append(_open(folder / LOCK_NAME, held, os.O_RDONLY))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LedgerError(
                f"{error.filename} cannot be read: {error.strerror}",
                hint="run it as the user who owns the state folder, or pass --state to use another",
            ) from error
        is_free = all(_lock(each, fcntl.LOCK_SH) for each in descriptors)
    return None if is_free else _describe_holder(folder / LOCK_NAME)


def _open_locks(folder: Path, held: ExitStack, flags: int) -> list[int]:
    """Open what is locked: the folder, and the file that older versions lock alone."""
    return [_open_folder(folder, held), _open(folder / LOCK_NAME, held, flags)]


def _open_folder(folder: Path, held: ExitStack) -> int:
    return _open(folder, held, os.O_RDONLY | os.O_DIRECTORY)


def _open(path: Path, held: ExitStack, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    held.callback(os.close, descriptor)
    return descriptor


def _lock_all(descriptors: Sequence[int], kind: int, folder: Path) -> bool:
    """Lock all or none of them; say whether they are locked."""
    with _writing(folder):
        if all(_lock(each, kind) for each in descriptors):
            return True
        for each in descriptors:
            fcntl.flock(each, fcntl.LOCK_UN)
    return False


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe_holder(lock: Path) -> str:
    try:
        return describe_process(json.loads(lock.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def describe_process(process: Mapping[str, Any]) -> str:
    """Return words for what `this_process` has returned in another process."""
    return f"process {process['pid']} on {process['host']} since {process['since']}"
