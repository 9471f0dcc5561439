"""What reading or writing a ledger's files may fail with, named by what the user can do."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path

from engine.errors import LedgerError, StateFullError
from engine.ledger.damage import corrupt

UNREADABLE = (sqlite3.Error, UnicodeDecodeError, JSONDecodeError)
"""What reading a ledger may fail with; where SQLite quotes broken text, Python can't decode it."""
_BROKEN_TEXT = ("Could not decode", "malformed JSON")
_ODD_HEADER = "unsupported file format"
"""SQLite's message for an unknown number in the file's header, which has no code of its own."""


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors in the block into ours, named by what can be done about them."""
    try:
        yield
    except UNREADABLE as error:
        translated = translate(error, path)
        if translated is error:
            raise
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


def translate(
    error: sqlite3.Error | UnicodeDecodeError | JSONDecodeError | OSError, path: Path
) -> Exception:
    """Name an error by what the user can do; one of SQLite's that is our mistake stays as it is."""
    is_text = isinstance(error, UnicodeDecodeError | JSONDecodeError)
    if is_text or str(error).startswith(_BROKEN_TEXT):
        # It would quote what it found, which may be a uid.
        return corrupt("broken text", path)
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
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or str(error) == _ODD_HEADER:
        return corrupt(str(error), path)
    if code in _OUTSIDE_CAUSES:
        return LedgerError(
            f"the ledger {path} cannot be used: {getattr(error, 'strerror', error)}",
            hint="check the permissions of the state folder",
        )
    return error
