"""Replaces the state folder by a backup; what was sent after the backup is unknown from then on."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from engine.clock import Clock, SystemClock
from engine.config.loading import Config, Project
from engine.errors import LedgerError, LockHeldError, UsageError
from engine.ledger.locks import all_at_once
from engine.ledger.sqlite.copying import mark_restored, mirrored_cohorts
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.state_folder import make_folder, refuse_network_file_system
from engine.report.accounts import timestamp
from engine.report.state import Restored
from engine.runs.backup import FORMAT, MANIFEST, STATE, VERSION, link_or_copy
from engine.runs.engines import store_of
from engine.snapshot.doubt import doubt_all
from engine.storage.files import digest_of, new_file, sync_folders, work_folder, writing_in
from engine.storage.paths import (
    LEDGER_NAME,
    TemporaryPurpose,
    restore_mark,
    set_aside_folder,
    workspace_folders,
)
from engine.storage.temporary import remove_abandoned_folders


@dataclass(frozen=True, slots=True)
class _Backup:
    """A backup whose files are as its manifest lists them."""

    folder: Path
    made_utc_ns: int
    files: Sequence[Path]
    """Relative to the folder `state` of the backup."""


def _verified(folder: Path) -> _Backup:
    """Return a backup; raises `UsageError` if it is none, and `LedgerError` if it is damaged."""
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        is_ours = (document["format"], document["version"]) == (FORMAT, VERSION)
        files = [(str(each["path"]), str(each["sha256"])) for each in document["files"]]
        made_utc_ns = int(document["made_utc_ns"])
    except (OSError, ValueError, LookupError, TypeError):
        is_ours = False
    if not is_ours:
        hint = "name a folder that `cohortsync backup` has completed"
        raise UsageError(f"{folder} is no complete backup of this version", hint=hint)
    relative = [_inside(name, folder) for name, _ in files]
    for path, (_, digest) in zip(relative, files, strict=True):
        try:
            is_whole = digest_of(folder / STATE / path).hex() == digest
        except OSError:
            is_whole = False
        if not is_whole:
            raise LedgerError(
                f"the backup {folder} is damaged: {path} is not as it was made",
                hint="nothing was changed; restore another backup",
            )
    return _Backup(folder, made_utc_ns, relative)


def _inside(name: str, folder: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (STATE,):
        raise LedgerError(
            f"the backup {folder} is damaged: its manifest names {name}",
            hint="nothing was changed; restore another backup",
        )
    return Path(*path.parts[1:])


async def restore(project: Project, folder: Path, clock: Clock | None = None) -> Restored:
    """Replace the state folder by a backup; the present state is set aside, never deleted.

    What was sent after the backup is unknown: each uid of each restored snapshot is unknown, the
    next mirror of each cohort is stopped by the guard `restored`, unfinished runs and kept plans
    are closed, and the ceiling counts as used up. Raises `UsageError` for a folder that is no
    backup, `LedgerError` for a damaged one and if a database has moved since it was made,
    `IncompleteError` if a database cannot be used now, and `LockHeldError` if a process works here.
    """
    clock = clock or SystemClock()
    config = project.shared
    state = config.state_dir
    # A ledger does not say which workspace of the configuration it belongs to.
    sends = max(each.pacing.most for each in project.workspaces.values())
    found = await asyncio.to_thread(_verified, folder)
    refuse_network_file_system(state)
    make_folder(state)
    with ExitStack() as held:
        for workspace in workspace_folders(state):
            holder = held.enter_context(all_at_once(workspace))
            if holder is not None:
                raise LockHeldError(
                    f"the state folder {state} is in use by {holder}",
                    hint="restore it when no command runs",
                )
        remove_abandoned_folders(state)
        draft = held.enter_context(work_folder(state, TemporaryPurpose.RESTORE)) / "draft"
        with writing_in(state):
            await asyncio.to_thread(_unpack, found, draft)
            cohorts: list[str] = []
            abandoned: list[str] = []
            paths = [folder / LEDGER_NAME for folder in workspace_folders(draft)]
            for path in paths:  # Before a database is changed for any of them.
                await _refuse_moved(config, path, clock)
            for path in paths:
                marked = await _prepare(config, path, found.made_utc_ns, clock, sends)
                cohorts += marked[0]
                abandoned += marked[1]
            aside = _swap(state, draft, clock.stamp().utc_ns)
    made_at = timestamp(found.made_utc_ns)
    set_aside = None if aside is None else str(aside)
    return Restored(str(folder), made_at, set_aside, cohorts, abandoned)


def _unpack(found: _Backup, draft: Path) -> None:
    draft.mkdir(mode=0o700)
    for path in found.files:
        source, target = found.folder / STATE / path, draft / path
        if path.name != LEDGER_NAME:
            link_or_copy(source, target)
            continue
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It is changed from now on: the backup must not be.
        with source.open("rb") as file, new_file(target) as copy:
            shutil.copyfileobj(file, copy)


async def _refuse_moved(config: Config, path: Path, clock: Clock) -> None:
    """Raise `LedgerError` if a snapshot that is kept in a database is not that of the backup."""
    with LedgerReader.open(path, clock) as ledger:
        for key in await ledger.read(mirrored_cohorts):
            store = store_of(config, path.parent, ledger.snapshots, key, clock)
            try:
                await store.current()
            except LedgerError as error:
                raise LedgerError(
                    f"cohort {key.cohort_id} is not as it was at the backup: {error.message}",
                    hint="nothing was changed; put back the backup of the database that was made "
                    "at that time, and restore again",
                ) from error


async def _prepare(
    config: Config, path: Path, backup_utc_ns: int, clock: Clock, sends: int
) -> tuple[list[str], list[str]]:
    """Mark as unknown what may have changed since; return the cohorts and the closed runs."""
    ledger = await Ledger.open(path, clock)
    try:
        await ledger.recover()
        doubted = []
        for key in await ledger.write(mirrored_cohorts):
            store = store_of(config, path.parent, ledger.snapshots, key, clock)
            if await doubt_all(store):
                doubted.append(key.cohort_id)
        now = clock.stamp()
        abandoned = await ledger.write(lambda c: mark_restored(c, backup_utc_ns, now, sends))
    finally:
        await ledger.close()
    return doubted, abandoned


def _swap(state: Path, draft: Path, now_utc_ns: int) -> Path | None:
    """Move the present state aside and the draft in its place; return where the former is.

    A process that dies meanwhile leaves the mark, so that no command takes a missing ledger for one
    that was never made.
    """
    time = datetime.fromtimestamp(now_utc_ns / 1e9, UTC)
    aside = set_aside_folder(state, f"{time:%Y%m%d-%H%M%S}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}+")
    present = [path for path in state.iterdir() if path.name.startswith("http")]
    with new_file(restore_mark(state)) as mark:
        mark.write(b"a restore was begun and has not ended: run it again\n")
    if present:
        aside.mkdir(mode=0o700)
    for path in present:
        path.rename(aside / path.name)
    for path in sorted(draft.iterdir()):
        path.rename(state / path.name)
    sync_folders(state)
    restore_mark(state).unlink()
    return aside if present else None
