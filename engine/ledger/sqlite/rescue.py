"""Writes a ledger again from the open connection, if its file was removed while it was in use."""

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from engine.errors import CohortSyncError
from engine.ledger.locks import LOCK_NAME, sole_writer_at_once
from engine.ledger.state_folder import make_folder, this_process
from engine.storage.paths import rescued_ledger

_WHATEVER_FAILS = (OSError, sqlite3.Error, CohortSyncError)
"""No error is raised if a ledger cannot be restored: the run already has an error to report."""


def copy_to_draft(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Copy the ledger of `connection` to a file in the folder of `path`; None if it fails.

    It includes the times of the requests that were sent, so that a new run observes the ceiling,
    and which snapshot is current, so that its loss is noticed.
    """
    draft = rescued_ledger(path)
    with suppress(*_WHATEVER_FAILS):
        make_folder(path.parent)
        draft.touch(mode=0o600)
        with closing(sqlite3.connect(draft)) as copy:
            connection.backup(copy)
        return draft
    return None


def put_back(draft: Path, path: Path) -> None:
    """Move the copy to the ledger's path, unless there is another ledger; else delete the copy.

    The connection that it was copied from is closed by now, and has deleted its other files.
    """
    with suppress(*_WHATEVER_FAILS), sole_writer_at_once(path.parent) as is_free:
        if (is_free or _is_held_here(path.parent)) and not path.exists():
            draft.replace(path)
    with suppress(OSError):
        draft.unlink(missing_ok=True)


def _is_held_here(folder: Path) -> bool:
    """Return whether this process holds the folder's lock: then only the file was removed."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        holder = json.loads((folder / LOCK_NAME).read_bytes())
        here = this_process()
        return all(holder[key] == here[key] for key in ("pid", "host"))
    return False
