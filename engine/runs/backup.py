"""Copies the ledgers and snapshots of a state folder while runs go on.

A backup is a folder with `manifest.json`, which lists each file with its size and digest, and with
`state/`, which has the layout of a state folder. The manifest is written last, and the folder gets
its name last.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from engine.clock import Clock, SystemClock
from engine.errors import LedgerError, UsageError
from engine.ledger.sqlite.access import ledgers, readable_files
from engine.ledger.sqlite.copying import copy_ledger, named_files
from engine.report.accounts import timestamp
from engine.report.state import BackedUp
from engine.storage.files import digest_of, new_file, sync_folders, work_folder, writing_in
from engine.storage.paths import (
    LEDGER_NAME,
    TemporaryPurpose,
    generation_number,
    is_uid_file,
    plan_folder,
    snapshot_folder,
)
from engine.storage.temporary import remove_abandoned_folders

FORMAT = "cohortsync backup"
VERSION = 1
MANIFEST, STATE = "manifest.json", "state"
_TRIES = 5
"""How often a workspace is copied again, because a run has deleted a file that the copy names."""


async def backup(state: Path, folder: Path, clock: Clock | None = None) -> BackedUp:
    """Copy all ledgers of a state folder, and the files that they name, to the new `folder`.

    Runs go on meanwhile. Snapshots and plans never change: they are hard links on the same file
    system, and copies otherwise. Raises `UsageError` if `folder` exists and is not empty, or if
    there is nothing to copy, and `LedgerError` for a ledger that is lost or damaged.
    """
    now_utc_ns = (clock or SystemClock()).stamp().utc_ns
    return await asyncio.to_thread(_back_up, state, folder, now_utc_ns)


def _back_up(state: Path, folder: Path, now_utc_ns: int) -> BackedUp:
    folder = folder.absolute()
    _refuse_target(state, folder)
    paths = ledgers(state)
    if not paths:
        raise UsageError(f"there is no ledger in the state folder {state}", hint="name it: --state")
    remove_abandoned_folders(folder.parent)
    with work_folder(folder.parent, TemporaryPurpose.BACKUP) as passing, writing_in(folder):
        draft = passing / "draft"
        draft.mkdir(mode=0o700)
        for path in paths:
            with readable_files(path.parent):
                _copy_workspace(path.parent, draft / STATE / path.parent.relative_to(state))
        files = [_described(path, draft) for path in _files_in(draft)]
        made_at = timestamp(now_utc_ns)
        document = {
            "format": FORMAT,
            "version": VERSION,
            "made_at": made_at,
            "made_utc_ns": now_utc_ns,
            "files": files,
        }
        with new_file(draft / MANIFEST) as file:
            file.write(json.dumps(document, indent=1).encode())
        sync_folders(draft)
        draft.rename(folder)
    names = [PurePosixPath(each["path"]).name for each in files]
    return BackedUp(
        str(folder),
        made_at,
        len(paths),
        sum(generation_number(name) is not None for name in names),
        len(files),
        sum(each["bytes"] for each in files),
    )


def _refuse_target(state: Path, folder: Path) -> None:
    if folder.resolve().is_relative_to(state.resolve()):
        hint = "name a folder outside of it, on another disk if possible"
        raise UsageError(f"{folder} lies in the state folder itself", hint=hint)
    is_new = folder.is_dir() and not any(folder.iterdir())
    if os.path.lexists(folder) and not is_new:
        raise UsageError(f"{folder} exists already", hint="name a new folder")


def _copy_workspace(folder: Path, target: Path) -> None:
    """Copy a workspace's ledger and the files that the copy names."""
    for _ in range(_TRIES):
        target.mkdir(mode=0o700, parents=True)
        copy_ledger(folder / LEDGER_NAME, target / LEDGER_NAME)
        named = named_files(target / LEDGER_NAME)
        try:
            for key, name in named.generations:
                link_or_copy(
                    snapshot_folder(folder, key) / name, snapshot_folder(target, key) / name
                )
            for run, is_unfolded in named.runs:
                _copy_uids(
                    plan_folder(folder, run), plan_folder(target, run), is_needed=is_unfolded
                )
        except FileNotFoundError:
            shutil.rmtree(target)
        else:
            return
    raise LedgerError(
        f"a file that the ledger in {folder} names is not there",
        hint="`cohortsync snapshot verify` says which snapshot is lost",
    )


def _copy_uids(folder: Path, target: Path, *, is_needed: bool) -> None:
    """Copy the uids of a run; raises `FileNotFoundError` if they are needed and not there."""
    try:
        paths = [path for path in folder.iterdir() if is_uid_file(path.name)]
        for path in paths:
            link_or_copy(path, target / path.name)
    except FileNotFoundError:
        if is_needed:
            raise
        shutil.rmtree(target, ignore_errors=True)


def link_or_copy(path: Path, target: Path) -> None:
    """Link a file that is never changed to `target`, or copy it durably."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(path, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # Another file system, or one without hard links, or another user's file.
        with path.open("rb") as file, new_file(target) as copy:
            shutil.copyfileobj(file, copy)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _described(path: Path, root: Path) -> Mapping[str, Any]:
    return {
        "path": path.relative_to(root).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": digest_of(path).hex(),
    }
