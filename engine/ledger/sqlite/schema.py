"""A ledger's file: checks of its kind, version and integrity, and its migration to this version.

`PRAGMA user_version` is the number of migrations applied to a file. `PRAGMA application_id`
identifies it as a ledger.
"""

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from engine.errors import IncompleteError, LedgerError
from engine.ledger.damage import MOVE_AWAY, corrupt
from engine.ledger.sqlite.access import (
    connect_to_read,
    emptied,
    file_size,
    refuse_emptied,
    refuse_lost,
    refuse_unreadable,
)
from engine.ledger.sqlite.failures import UNREADABLE, readable_errors, translate
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.older import show_as_present
from engine.storage.files import keep_copy
from engine.storage.paths import ledger_backup

APPLICATION_ID = 0x436F5379  # "CoSy"


_CHECKED_AT_ONCE_BYTES = 16 << 20
"""Up to this size every command checks the whole file, which takes up to 0.1 s."""
_CHECK_INTERVAL_NS = 24 * 3600 * 1_000_000_000
"""How often a writer checks the whole of a larger file, which takes 4 s for 5 million attempts."""
_SUMMARIES = ("run", "sitting", "run_totals", "plan", "followed", "generation", "making")
"""Small tables that every list of runs and every plan depends on."""
_FIRST_TO_REMEMBER = 3
"""The first version that records when its file was checked."""


def open_ledger(
    path: Path, migrations: Sequence[str] = MIGRATIONS, *, now_utc_ns: int | None = None
) -> sqlite3.Connection:
    """Open a ledger for writing; create it, or back it up and migrate it, as needed.

    A large file that was checked in full within a day, by `now_utc_ns`, is not checked in full
    again. Raises `LedgerError` for a file that is corrupt, emptied, no ledger, or newer than this
    program.
    """
    refuse_emptied(path)
    try:
        # The mode is set before SQLite opens the file: the files beside it, which hold uids too,
        # take their mode from it.
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        raise translate(error, path) from error
    with ExitStack() as opened, readable_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        opened.callback(connection.close)
        connection.execute("PRAGMA busy_timeout = 10000")
        _check(connection, path, migrations)
        is_large = _is_large(connection)
        is_due = not is_large or _is_check_due(connection, now_utc_ns)
        check_content(connection, path, None if is_due else _SUMMARIES)
        # A new file can return free pages to the disk in parts; for others it has no effect.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, path, migrations)
        if is_large and is_due and now_utc_ns and len(migrations) >= _FIRST_TO_REMEMBER:
            connection.execute(
                "INSERT OR REPLACE INTO integrity_check (id, checked_utc_ns) VALUES (1, ?)",
                (now_utc_ns,),
            )
        # Foreign keys are off until now: a migration that recreates a table drops one that
        # others refer to.
        connection.execute("PRAGMA foreign_keys = ON")
        opened.pop_all()
    return connection


def _is_large(connection: sqlite3.Connection) -> bool:
    pages, bytes_each = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
    )
    return bool(pages * bytes_each > _CHECKED_AT_ONCE_BYTES)


def _is_check_due(connection: sqlite3.Connection, now_utc_ns: int | None) -> bool:
    """Return whether a writer must check the whole of a large file."""
    if now_utc_ns is None or _version(connection) < _FIRST_TO_REMEMBER:
        return True
    found = connection.execute("SELECT checked_utc_ns FROM integrity_check").fetchone()
    # A clock that was set back does not delay the check.
    return found is None or not 0 <= now_utc_ns - found[0] < _CHECK_INTERVAL_NS


def open_for_reading(
    path: Path, *, is_verified: bool = False, is_whole: bool = False
) -> sqlite3.Connection:
    """Open a ledger that may be in use by a run; it is not changed.

    A ledger of an older version is presented as if it were migrated; see `older`. With `is_whole`
    the whole file is checked; otherwise, of a large file, only the tables that summarize the others
    are. Nothing is checked if a writer of this process has verified the file already.

    Raises `LedgerError` for a file that cannot be read, is corrupt, emptied, or newer.
    """
    refuse_unreadable(path)
    if file_size(path) == 0:
        raise emptied(path)
    with ExitStack() as opened:
        connection = connect_to_read(path)
        opened.callback(connection.close)
        with readable_errors(path):
            _check(connection, path, MIGRATIONS)
            if not is_verified:
                if _is_large(connection):
                    check_content(connection, path, None if is_whole else _SUMMARIES)
                else:
                    _check_copy(connection, path)
            if _version(connection) < len(MIGRATIONS):
                show_as_present(connection, MIGRATIONS)
        if not is_verified:
            refuse_lost(connection, path)
        opened.pop_all()
    return connection


def open_blank() -> sqlite3.Connection:
    """Return an empty ledger in memory, to query in the place of one that does not exist."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript("".join(MIGRATIONS))
    return connection


def is_current(path: Path) -> bool:
    """Return whether a file is a ledger of this version, which needs no creation or migration."""
    try:
        if not file_size(path):
            return False
        with closing(connect_to_read(path)) as connection:
            return _version(connection) == len(MIGRATIONS)
    except (LedgerError, sqlite3.Error):
        return False


def is_older(connection: sqlite3.Connection) -> bool:
    """Return whether a ledger is of an older version, which the next run migrates."""
    return 0 < _version(connection) < len(MIGRATIONS)


def _check(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Refuse a file that is no ledger, is newer, or has other tables than its version has."""
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
    if version == 0 or not _tables_made_by(tuple(migrations[:version])) <= _tables(connection):
        raise corrupt("its tables are not those of its version", path)


def check_content(
    connection: sqlite3.Connection, path: Path, tables: Sequence[str] | None = None
) -> None:
    """Raise `LedgerError` if some tables or their indexes, or the whole file, are damaged."""
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    for what in [1] if tables is None else [table for table in tables if table in there]:
        findings = connection.execute(f"PRAGMA integrity_check({what})").fetchone()[0]
        if findings != "ok":
            raise corrupt(findings, path)


DAMAGE_SYMPTOMS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    sqlite3.Error,
)
"""Errors of code that reads a value its column may not hold, or that misses a row."""


def failure_of(error: BaseException, connection: sqlite3.Connection, path: Path) -> BaseException:
    """Return the error to raise for a failure over a ledger; an error from a bug here is unchanged.

    After an error from invalid values, it checks for damage: a large file is not checked completely
    before.
    """
    if isinstance(error, UNREADABLE) and (translated := translate(error, path)) is not error:
        return translated
    if isinstance(error, DAMAGE_SYMPTOMS):
        try:
            with readable_errors(path):
                check_content(connection, path)
        except LedgerError as damage:
            return damage
        except IncompleteError:  # It cannot be checked now, so no damage is known.
            return error
    return error


def check_file(path: Path) -> None:
    """Raise `LedgerError` if the whole file is damaged; `IncompleteError` if that takes too long.

    It only reads, so that no other process has to wait. A connection that may only read would not
    check the constraints of columns.
    """
    uri = f"file:{quote(os.fsencode(path.resolve()))}?mode=rw"
    with readable_errors(path), closing(sqlite3.connect(uri, uri=True)) as connection:
        check_content(connection, path)


def _check_copy(connection: sqlite3.Connection, path: Path) -> None:
    """Check the whole of a small file by a copy in memory, including the constraints of columns.

    SQLite ignores these constraints in every file that it may only read.
    """
    with closing(sqlite3.connect(":memory:")) as copy:
        connection.backup(copy)
        check_content(copy, path)


_COMMENT_OR_BLANK = re.compile(r"--[^\n]*|\s+")


def _tables(connection: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Return the SQL that made tables and indexes, without comments, which may be reworded."""
    rows = connection.execute(
        "SELECT name, CAST(sql AS TEXT) FROM sqlite_schema WHERE sql IS NOT NULL"
    )
    return frozenset((name, _COMMENT_OR_BLANK.sub("", sql)) for name, sql in rows)


@cache  # One command opens its ledger many times.
def _tables_made_by(migrations: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(migrations))
        return _tables(connection)


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = _version(connection)
    if version == len(migrations):
        return
    if version:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            keep_copy(path, ledger_backup(path, version))
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
