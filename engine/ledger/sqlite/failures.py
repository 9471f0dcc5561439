"""Errors of reading or writing a ledger's files, translated to what the user can do."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path

from engine.errors import IncompleteError, LedgerError, StateFullError
from engine.ledger.damage import corrupt

UNREADABLE = (sqlite3.Error, UnicodeDecodeError, JSONDecodeError)
"""The errors of reading a ledger; if SQLite quotes invalid text, Python cannot decode it."""
_BROKEN_TEXT = ("Could not decode", "malformed JSON")
_ODD_HEADER = "unsupported file format"
"""SQLite's message for an unknown number in the file's header; it has no error code of its own."""


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors in the block to what the user can do about them."""
    try:
        yield
    except UNREADABLE as error:
        translated = translate(error, path)
        if translated is error:
            raise
        raise translated from error


_OUTSIDE_CAUSES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def translate(
    error: sqlite3.Error | UnicodeDecodeError | JSONDecodeError | OSError, path: Path
) -> Exception:
    """Translate an error to what the user can do; an SQLite error from a bug here is unchanged."""
    is_text = isinstance(error, UnicodeDecodeError | JSONDecodeError)
    if is_text or str(error).startswith(_BROKEN_TEXT):
        # The message would quote the content, which may be a uid.
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
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return IncompleteError(
            f"the ledger {path} is in use by another program, which does not release it",
            hint="run the same command again; if that does not help, look for a program that has "
            "the file open, such as a database browser",
        )
    if code in _OUTSIDE_CAUSES:
        return LedgerError(
            f"the ledger {path} cannot be used: {getattr(error, 'strerror', error)}",
            hint="check the permissions of the state folder",
        )
    return error
