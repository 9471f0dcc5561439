"""A ledger's file: whether it is one, of which version, whole, and brought to this version.

`PRAGMA user_version` is the number of migrations that a file has been through, `PRAGMA
application_id` says that it is a ledger at all.
"""

import errno
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from engine.errors import LedgerError, OlderLedgerError, StateFullError
from engine.ledger.migrations import MIGRATIONS
from engine.storage.files import keep_copy

APPLICATION_ID = 0x436F5379  # "CoSy"


def open_ledger(path: Path, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open a ledger for writing; create it, or back it up and migrate it, as needed.

    Raises `LedgerError` for a file that is corrupt, no ledger, or newer than this program.
    """
    try:
        # Before SQLite opens it: the files beside it, which hold uids too, take their mode from it.
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        raise translate(error, path) from error
    with readable_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        with readable_errors(path):
            connection.execute("PRAGMA busy_timeout = 10000")
            _check(connection, path, migrations)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection, path, migrations)
            # Only now: a migration that makes a table anew drops one that others refer to.
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path, *, is_verified: bool = False) -> sqlite3.Connection:
    """Open a ledger that may be in use by a run.

    A file that this process has verified already, as `open_ledger` does, need not be read in full
    again: that takes seconds for a million attempts. Raises `LedgerError` for one that cannot be
    read, or is newer, `OlderLedgerError` for one that is whole and waits to be migrated.
    """
    with readable_errors(path):
        uri = f"file:{quote(os.fsencode(path.resolve()))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        with readable_errors(path):
            connection.execute("PRAGMA busy_timeout = 10000")
            _check(connection, path, MIGRATIONS, is_verified=is_verified)
            _refuse_older(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def open_blank() -> sqlite3.Connection:
    """Return a ledger without runs, in memory, to ask in the place of one that is not there."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(MIGRATIONS))
    connection.row_factory = sqlite3.Row
    return connection


def _check(
    connection: sqlite3.Connection,
    path: Path,
    migrations: Sequence[str],
    *,
    is_verified: bool = False,
) -> None:
    version = _version(connection)
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if is_empty and version == 0:
        return
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise LedgerError(f"{path} is not a ledger of cohortsync", hint=MOVE_AWAY)
    if version > len(migrations):
        raise LedgerError(
            f"the ledger {path} has version {version}; this program knows up to {len(migrations)}",
            hint="upgrade cohortsync, or use another state folder",
        )
    if is_verified:
        return
    # What SQLite can't know is which tables there should be; its own check runs what they say.
    if version > 0 and _tables_made_by(tuple(migrations[:version])) <= _tables(connection):
        findings = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    else:
        findings = "its tables are not those of its version"
    if findings != "ok":
        raise LedgerError(f"the ledger {path} is corrupt: {findings}", hint=MOVE_AWAY)


_COMMENT_OR_BLANK = re.compile(r"--[^\n]*|\s+")


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Return how tables and indexes were made; comments, which may be reworded, do not count."""
    rows = connection.execute(
        "SELECT name, CAST(sql AS TEXT) FROM sqlite_schema WHERE sql IS NOT NULL"
    )
    return frozenset((name, _COMMENT_OR_BLANK.sub("", sql)) for name, sql in rows)


@cache  # One command opens its ledger many times over.
def _tables_made_by(migrations: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(migrations))
        return _tables(connection)


def _refuse_older(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) != len(MIGRATIONS):
        raise OlderLedgerError(
            f"the ledger {path} was written by an older version",
            hint="the next push migrates it",
        )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = _version(connection)
    if version == len(migrations):
        return
    if version:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            keep_copy(path, f"{path.name}.v{version}.bak")
        except OSError as error:
            raise translate(error, path) from error
    steps = "".join(migrations[version:])
    connection.executescript(
        f"BEGIN IMMEDIATE; {steps}"
        f"PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {len(migrations)}; COMMIT;"
    )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


MOVE_AWAY = (
    "move it away to start afresh; what it knew of unfinished runs is lost, so push those exports "
    "again in full"
)


UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a ledger may fail with; where SQLite quotes broken text, Python can't decode it."""


class readable_errors:  # noqa: N801 - it is used as a function is
    """Turns SQLite's errors into ours, named by what can be done about them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Watch the block."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the readable error in place of SQLite's."""
        if isinstance(error, UNREADABLE):
            translated = translate(error, self._path)
            if translated is not error:
                raise translated from error


_OUTSIDE_CAUSES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def translate(error: sqlite3.Error | UnicodeDecodeError | OSError, path: Path) -> Exception:
    """Name an error by what the user can do; one of SQLite's that is our mistake stays as it is."""
    if isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode"):
        # It would quote what it found, which may be a uid.
        return LedgerError(f"the ledger {path} is corrupt: broken text", hint=MOVE_AWAY)
    if isinstance(error, OSError):
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        code = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_CANTOPEN
    else:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StateFullError(
            f"the ledger {path} cannot be read or written: {error}",
            hint="make room on that disk, then run the same command again",
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return LedgerError(f"the ledger {path} is corrupt: {error}", hint=MOVE_AWAY)
    if code in _OUTSIDE_CAUSES:
        return LedgerError(
            f"the ledger {path} cannot be used: {getattr(error, 'strerror', error)}",
            hint="check the permissions of the state folder",
        )
    return error
