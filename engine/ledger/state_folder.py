"""The folder of a ledger, and whether it can hold one."""

import errno
import fcntl
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from engine.errors import LedgerError, StateFullError, StateGoneError, UsageError
from engine.model.endpoint import Endpoint
from engine.storage.files import new_file
from engine.storage.paths import LEDGER_ID_NAME, ledger_folder

# SQLite's WAL needs memory that processes share, and flock needs one kernel for all processes:
# network file systems guarantee neither.
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
"""The escapes of blanks and backslashes in the table of mounts."""


@dataclass(frozen=True, slots=True)
class WorkspaceFolder:
    """A workspace's folder, and the endpoint as the folder's name spells it."""

    folder: Path
    endpoint: str

    @classmethod
    def of(cls, state: Path, endpoint: Endpoint, workspace: str) -> Self:
        """Return the folder for a workspace at an endpoint, the same for all its spellings.

        The folder of an older version may have another spelling, and keeps it. So the loss of a
        ledger in that folder is noticed.
        """
        for spelling in (endpoint.url, endpoint.identity, *endpoint.other_spellings):
            folder = ledger_folder(state, spelling, workspace)
            if os.path.isdir(folder):  # noqa: PTH112 - no error where it is unreadable
                return cls(folder, spelling)
        return cls(ledger_folder(state, endpoint.identity, workspace), endpoint.identity)


def make_folder(folder: Path) -> None:
    """Create a folder for a ledger or its files; refuse a network file system.

    Only its owner has access to it and to each parent folder that is made with it; existing folders
    keep their mode. Nothing remains if this process is killed. Raises `LedgerError` if it cannot be
    written or is on a network file system.
    """
    refuse_network_file_system(folder)
    with writing_to(folder):
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir(mode=0o700)
                each.chmod(0o700)  # whatever the umask is
        try_writing(folder)


def close_to_others(folder: Path) -> None:
    """Restrict a workspace's folder to its owner: older versions left its mode to the umask.

    The state folder itself keeps its mode: it may be older than the ledger.
    """
    for each in (folder, folder.parent):
        with suppress(OSError):  # It may be another user's.
            each.chmod(0o700)


def try_writing(folder: Path) -> None:
    """Write and lock a file without a name in a folder; raises `OSError` if that fails."""
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
def writing_to(folder: Path) -> Iterator[None]:
    """Raise `StateFullError` for a full disk, `LedgerError` for the file system's other errors."""
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
    """Raise `LedgerError` as `make_folder` would; creates nothing."""
    refuse_network_file_system(folder)
    with writing_to(folder):
        place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def refuse_network_file_system(folder: Path) -> None:
    """Raise `LedgerError` if the folder is on a file system that cannot hold a ledger."""
    kind = file_system(folder, _mounts())
    if kind in _NETWORK_FILE_SYSTEMS:
        raise LedgerError(
            f"the state folder {folder} lies on a network file system ({kind}), where a ledger "
            "can be neither locked nor shared",
            hint="set [state] dir to a folder on a local disk",
        )


def file_system(folder: Path, mounts: str) -> str | None:
    """Return the kind of file system that holds `folder`, by Linux's table of mounts.

    `mounts` is the text of /proc/self/mountinfo. The folder need not exist yet. None if unknown.
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


def is_still(path: Path, found: os.stat_result) -> bool:
    """Return whether a path still refers to the file of the result `found` of `stat`."""
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
    """Return what identifies this process to others, as plain values."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_process(process: Mapping[str, Any]) -> str:
    """Return a description of a process from what `this_process` returned in it."""
    return f"process {process['pid']} on {process['host']} since {process['since']}"


def folder_identity(folder: Path, boot_id: str) -> str:
    """Return text that identifies a folder, which exists, on this boot of this machine."""
    found = folder.stat()
    return f"{boot_id}:{found.st_dev}:{found.st_ino}"


def ledger_id(folder: Path) -> str:
    """Return what identifies the ledger in a folder to other hosts; it is made if it is missing.

    A ledger that is restored from a backup is another one. Raises `LedgerError` if it cannot be
    written.
    """
    path = folder / LEDGER_ID_NAME
    if not path.exists():
        # Another process may make it at the same time.
        with suppress(UsageError), new_file(path, replaces=False) as file:
            file.write(secrets.token_hex(16).encode())
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read", hint="check its permissions") from error
