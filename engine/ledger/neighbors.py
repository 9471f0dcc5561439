"""Processes that work on one workspace from several state folders: each is warned of the others.

They do not share a ledger, so each observes the ceiling by itself, and together they may exceed it.
Each process locks a file to announce itself, in folders that only this user can write to.
"""

import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from engine.ledger.state_folder import describe_process, is_still, this_process

_DIGEST_CHARACTERS = 32


def runtime_folders() -> list[Path]:
    """Return the folders in which processes of this user can find each other.

    There may be several: a login has `XDG_RUNTIME_DIR`, cron may not.
    """
    user = os.getuid()
    named = os.environ.get("XDG_RUNTIME_DIR")
    roots = [Path(named)] if named else []
    roots.append(Path("/run/user", str(user)))
    folders = [root / "cohortsync" for root in roots if root.is_absolute() and root.is_dir()]
    return list(dict.fromkeys([*folders, Path(tempfile.gettempdir(), f"cohortsync-{user}")]))


@contextmanager
def announced(endpoint: str, workspace: str, state: Path) -> Iterator[list[str]]:
    """Announce this process during the block; yield a sentence for each other one of the workspace.

    Processes with the same state folder `state` are left out: they share the ceiling, too.
    `endpoint` is the endpoint's identity. Raises nothing if the process cannot be announced.
    """
    name = hashlib.sha256(f"{endpoint}\n{workspace}".encode()).hexdigest()[:_DIGEST_CHARACTERS]
    found: list[str] = []
    held = ExitStack()
    try:
        for folder in runtime_folders():
            with suppress(OSError):
                if _is_ours(folder):
                    own = _announce(folder, name, state, held)
                    found += _others(folder, name, own, state)
        yield list(dict.fromkeys(found))
    finally:
        # A failure here must not hide how a run has ended.
        with suppress(Exception):
            held.close()


def _is_ours(folder: Path) -> bool:
    """Create a folder if it is missing; return whether only this user can write to it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _announce(folder: Path, name: str, state: Path, held: ExitStack) -> Path:
    path = folder / f"{name}-{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    held.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    held.callback(path.unlink, missing_ok=True)
    os.write(descriptor, json.dumps(this_process() | {"state": str(state)}).encode())
    return path


def _others(folder: Path, name: str, own: Path, state: Path) -> Iterator[str]:
    """Yield a sentence for each living process with another state; delete files of dead ones."""
    for path in sorted(folder.glob(f"{name}-*")):
        if path == own:
            continue
        with suppress(OSError, ValueError, LookupError, TypeError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if _is_free(descriptor):
                    # Another process may be about to lock an empty one.
                    if os.fstat(descriptor).st_size and is_still(path, os.fstat(descriptor)):
                        path.unlink()
                    continue
                other = json.loads(path.read_bytes())
                if Path(other["state"]).resolve() != state.resolve():
                    process = describe_process(other)
                    yield f"{process} works on this workspace too, from {other['state']}"
            finally:
                os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
