"""A ledger's files on the disk: whether they exist, are readable, and how to connect to them.

SQLite treats some files that it may not read as missing, and its errors do not name them.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from engine.errors import IncompleteError, LedgerError
from engine.ledger.damage import MOVE_AWAY
from engine.ledger.locks import holder_of
from engine.ledger.sqlite.failures import readable_errors
from engine.storage.paths import (
    LEDGER_NAME,
    UID_FOLDERS,
    is_ledger_backup,
    ledger_index,
    ledger_log,
    restore_mark,
)


def ledgers(state: Path) -> list[Path]:
    """Return every ledger file below a state folder.

    Raises `LedgerError` if the folder does not exist, if a part of it may not be read, and if a
    ledger that earlier runs have written is missing.
    """
    refuse_unfinished_restore(state)
    try:
        endpoints = _folders_in(state)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LedgerError(
            f"the state folder {state} is not there",
            hint="--state or the configuration names it; the first push or mirror makes it",
        ) from error
    # Folders of others, such as lost+found, may be there and may be unreadable.
    ours = [endpoint for endpoint in endpoints if endpoint.name.startswith("http")]
    found = (ledger_in(workspace) for endpoint in ours for workspace in _folders_in(endpoint))
    return sorted(path for path in found if path is not None)


def ledger_in(folder: Path) -> Path | None:
    """Return the ledger file in a workspace's folder; None if nothing was ever sent from it.

    Raises `LedgerError` as `ledgers` does.
    """
    refuse_unfinished_restore(folder.parent.parent)
    path = folder / LEDGER_NAME
    if file_size(path) is not None:
        return path
    companions = (ledger_log(path), ledger_index(path))
    if any(file_size(file) is not None for file in companions) or traces_beside(path):
        raise LedgerError(
            f"the ledger {path} is not there, although earlier runs have left files beside it",
            hint="put the ledger back; or move its folder away to start afresh",
        )
    return None


def refuse_unfinished_restore(state: Path) -> None:
    """Raise `LedgerError` if a restore died while it replaced the state: ledgers may be missing."""
    if file_size(restore_mark(state)) is not None:
        raise LedgerError(
            f"a restore of the state folder {state} has not ended",
            hint="run `cohortsync restore` again, with the same backup or another one",
        )


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise unreadable(folder, error.strerror) from error


@contextmanager
def readable_files(folder: Path) -> Iterator[None]:
    """Raise `LedgerError` if the block may not read or write a file in `folder`."""
    try:
        yield
    except PermissionError as error:
        name = error.filename
        if not (isinstance(name, str) and Path(name).is_relative_to(folder)):
            raise
        raise unreadable(Path(name), error.strerror, "read or written") from error


def refuse_unreadable(path: Path) -> None:
    """Raise `LedgerError` if a file of the ledger may not be read by this user.

    SQLite's error would not name the file, and SQLite would treat some such files as missing.
    """
    # The file is not opened for this: closing it would release the locks of this process.
    by_effective_user = os.access in os.supports_effective_ids
    for file in (path, ledger_log(path), ledger_index(path)):
        is_there = file_size(file) is not None
        if is_there and not os.access(file, os.R_OK, effective_ids=by_effective_user):
            raise unreadable(file, "Permission denied")


def file_size(path: Path) -> int | None:
    """Return the bytes of a file; None if it is missing, `LedgerError` if that is unknown."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error.strerror) from error


def unreadable(path: Path, why: str | None, what: str = "read") -> LedgerError:
    """Return the error for a part of the state folder that cannot be read."""
    return LedgerError(
        f"{path} cannot be {what}: {why}",
        hint="run it as the user who owns the state folder, or pass --state to use another",
    )


def refuse_emptied(path: Path) -> None:
    """Raise `LedgerError` for an empty file beside other files that a ledger's runs have left.

    A missing ledger was moved away; an empty one was lost. An empty file alone may have been
    created by a process that died before it wrote anything.
    """
    if file_size(path) == 0 and (file_size(ledger_log(path)) or traces_beside(path)):
        raise emptied(path)


def emptied(path: Path) -> LedgerError:
    """Return the error for a ledger that has lost all its content."""
    return LedgerError(
        f"the ledger {path} is empty: whatever it knew was lost",
        hint=f"put the ledger back; or {MOVE_AWAY}",
    )


def refuse_lost(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` if a ledger is empty, and earlier runs have left files beside it.

    Such a ledger was created in the place of one that was lost.
    """
    tables = ("run", "generation", "making")
    query = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables)  # noqa: S608 - ours
    # In this order: a run of another process is entered before it leaves a file.
    if traces_beside(path) and not connection.execute(f"SELECT {query}").fetchone()[0]:
        raise LedgerError(
            f"the ledger {path} knows nothing of the files that earlier runs have left beside it: "
            "it was lost",
            hint="put the ledger back; or move its folder away to start afresh",
        )


def traces_beside(path: Path) -> list[str]:
    """Return the names of the files that a ledger's runs have left in its folder."""
    folder = path.parent
    try:
        names = sorted(each.name for each in folder.iterdir())
        return [
            name
            for name in names
            if (name in UID_FOLDERS and any((folder / name).iterdir())) or is_ledger_backup(name)
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error.strerror) from error


class _Immutable(sqlite3.Connection):
    """Reads a file without locks, and verifies on closing that no process has written to it."""

    path: Path
    before: tuple[int, ...] | None

    def close(self) -> None:
        """Close it; raises `IncompleteError` if the file has changed."""
        super().close()
        if _identity(self.path) != self.before or file_size(ledger_log(self.path)):
            raise IncompleteError(
                f"the ledger {self.path} was written to while it was read",
                hint="run the same command again",
            )


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Connect to a ledger; if SQLite may not create its shared files, connect without them."""
    uri = f"file:{quote(os.fsencode(path.resolve()))}?mode=ro"
    with readable_errors(path), ExitStack() as opened:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        opened.callback(connection.close)
        try:
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_SHARED_FILES or not file_size(path):
                raise
            return _connect_to_copy(path, uri)
        opened.pop_all()
    return connection


_NO_SHARED_FILES = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


def _connect_to_copy(path: Path, uri: str) -> sqlite3.Connection:
    """Connect to a ledger in a folder that this user may not write to, such as a copy."""
    if holder := holder_of(path.parent):
        raise LedgerError(
            f"the ledger {path} is in use by {holder}, and its folder cannot be written",
            hint="run it as the user who owns the state folder",
        )
    if file_size(ledger_log(path)):
        raise LedgerError(
            f"the ledger {path} has changes in {ledger_log(path).name}, which cannot be read in a "
            "folder that cannot be written",
            hint="copy the state folder to where you may write, and pass it by --state",
        )
    before = _identity(path)
    connection = sqlite3.connect(
        f"{uri}&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        factory=_Immutable,
    )
    connection.path, connection.before = path, before
    return connection
