"""Where a ledger lives, whether that place is fit for one, and who may write there."""

import asyncio
import errno
import fcntl
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from engine.errors import LedgerError, LockHeldError, StateFullError

LEDGER_NAME = "ledger.sqlite"
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


def ledger_folder(state: Path, endpoint_url: str, workspace: str) -> Path:
    """Return the folder for one workspace at one endpoint, so that a trial stays a trial."""
    return state / quote(endpoint_url, safe="") / quote(workspace, safe="")


def make_folder(folder: Path) -> None:
    """Create a folder for a ledger, readable by its owner only, and refuse unfit places.

    Raises `LedgerError` where it cannot be written or lies on a network file system.
    """
    refuse_unfit(folder)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()


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


def refuse_unfit(folder: Path) -> None:
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

    The kernel frees it when its holder dies, however that comes about. `waiting` is called when a
    wait has begun, with the words for the holder: "process 7 on HOST since …". Raises
    `LockHeldError`, naming the holder, when it is not free within `wait_seconds`, or the wait is
    stopped, and `LedgerError` where the folder cannot be written.
    """
    path = folder / LOCK_NAME
    begun = time.monotonic()
    is_told = False
    with _writing(folder):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _lock(descriptor, fcntl.LOCK_EX):
            waited = time.monotonic() - begun
            if waited >= max(wait_seconds, _GRACE_SECONDS) or is_stopped():
                raise LockHeldError(
                    f"this workspace's ledger is in use by {_words_for_holder(path)}",
                    hint="pass --wait SECONDS to wait for it, or run the command again later",
                )
            if waited >= _GRACE_SECONDS and not is_told:
                waiting(_words_for_holder(path))
                is_told = True
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with _writing(folder):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Say whether a living process works in this folder."""
    return holder_of(folder) is not None


def holder_of(folder: Path) -> str | None:
    """Return words for the living process that works in this folder, if there is one.

    Raises `LedgerError` where the lock may not be read, so that nobody can know.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be read: {error.strerror}",
            hint="run it as the user who owns the state folder, or pass --state to use another",
        ) from error
    try:
        is_free = _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
    return None if is_free else _words_for_holder(path)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _words_for_holder(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_bytes())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
