"""Every path that may hold uids is made here, so that all of them can be listed and erased.

    STATE/ENDPOINT/WORKSPACE/               a workspace's folder
        ledger.sqlite, -wal, -shm, -journal the ledger; `UID_COLUMNS` names its columns with uids
        ledger.sqlite.vN.bak, .bak.M        the ledger before a migration
        ledger.sqlite.put-back-PID          the ledger rewritten after its file was removed
        plans/RUN/                          a plan's operations, or the batches of a recorded push
        snapshots/PARTNER/COHORT/           what the API acknowledged
        shadows/PARTNER/COHORT/             what it would be if each dry run had been sent
    any of these, or `plan.spill_dir`:
        cohortsync-PURPOSE-XXXXXXXX/        a temporary folder
        .cohortsync-XXXXXXXX.part           a file until it is complete

A copy of an export that can be read only once has no name; it is in `copies_folder`.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from stat import S_ISREG
from urllib.parse import quote

from engine.model.cohort import CohortKey, Operation

LEDGER_NAME = "ledger.sqlite"
_BACKUP = re.compile(rf"{re.escape(LEDGER_NAME)}\.v[0-9]+\.bak(\.[0-9]+)?")
_RESCUED = f"{LEDGER_NAME}.put-back-"

_LOCKS = "locks"
_PLANS, _SNAPSHOTS, _SHADOWS = UID_FOLDERS = ("plans", "snapshots", "shadows")
"""The folders of a workspace that hold files of uids."""
_RECORDED = re.compile(r"(add|remove|resend)-([0-9]+)\.parquet")
_GENERATION = re.compile(r"([0-9]{6,})\.parquet")

TEMPORARY_PREFIX = "cohortsync-"
"""Begins the name of each temporary folder, which its purpose and eight characters follow."""
PART_PREFIX, PART_SUFFIX = ".cohortsync-", ".part"
"""Begin and end the name of each file that is being written."""
PART = re.compile(r"\.cohortsync-[a-z0-9_]{8}\.part")

_LONGEST_NAME = 255
"""Bytes that a file system takes as a name."""
_LONGEST_PARTNER = 100
"""Bytes of a partner's or cohort's name in a path."""
_DIGEST_CHARACTERS = 16


class TemporaryPurpose(StrEnum):
    """What a temporary folder is for; part of its name."""

    PLAN = "plan"
    LIST = "list"
    IMPORT = "import"
    FOLD = "fold"
    SESSION = "session"
    SPILL = "spill"


_TEMPORARY = re.compile(rf"{TEMPORARY_PREFIX}({'|'.join(TemporaryPurpose)})-[a-z0-9_]{{8}}")


class TemporaryName(StrEnum):
    """A file of uids in a temporary folder."""

    EXPORT = "export.parquet"
    """The staged export that a plan is made of."""
    LIST = "listed.parquet"
    """A list of members that a snapshot is compared with or made of."""
    CHANGES = "changed.parquet"
    """The uids whose state changes between two snapshots."""
    IMPORT = "copy.parquet"
    """A snapshot from elsewhere until it is verified."""
    CANDIDATE = "candidate.parquet"
    """A snapshot that becomes the current one only when its plan is sent."""


class UidContent(StrEnum):
    """What a file that may hold uids is."""

    LEDGER = "ledger"
    BACKUP = "ledger backup"
    RESCUED = "rescued ledger"
    PLAN = "plan"
    RECORDING = "recorded push"
    SNAPSHOT = "snapshot"
    SHADOW = "dry-run snapshot"
    TEMPORARY = "temporary file"


@dataclass(frozen=True, slots=True)
class UidLocation:
    """A file that may hold uids."""

    path: Path
    content: UidContent
    bytes: int


def ledger_folder(state: Path, endpoint_url: str, workspace: str) -> Path:
    """Return the folder of one workspace at one endpoint: trial and production stay apart."""
    return state / _folder_name(endpoint_url) / _folder_name(workspace)


def _folder_name(text: str) -> str:
    """Return a name for a folder below another one: no path, no `..`, and not too long."""
    name = quote(text, safe="")
    if name in {".", ".."}:
        return name.replace(".", "%2E")
    return _shortened(name, text, _LONGEST_NAME - 1 - _DIGEST_CHARACTERS, _LONGEST_NAME)


def _shortened(name: str, text: str, kept: int, longest: int) -> str:
    """Return `name`, or its first characters and a digest of `text` if it is too long."""
    if len(name) <= longest:
        return name
    return f"{name[:kept]}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"


def ledger_log(ledger: Path) -> Path:
    """Return the file of changes that are not in the ledger's own file yet."""
    return ledger.with_name(f"{ledger.name}-wal")


def ledger_index(ledger: Path) -> Path:
    """Return the file by which SQLite's processes find a row in the log."""
    return ledger.with_name(f"{ledger.name}-shm")


def ledger_backup(ledger: Path, version: int) -> Path:
    """Return the copy that is made before a migration from `version`."""
    return ledger.with_name(f"{ledger.name}.v{version}.bak")


def is_ledger_backup(name: str) -> bool:
    """Say whether a file in a workspace's folder is a backup of its ledger."""
    return _BACKUP.fullmatch(name) is not None


def rescued_ledger(ledger: Path) -> Path:
    """Return the file that this process writes when the ledger's own file was removed."""
    return ledger.with_name(f"{_RESCUED}{os.getpid()}")


def plan_folder(root: Path, run: str) -> Path:
    """Return the folder that holds the uids of a run, by its name; `root` is the ledger's."""
    return root / _PLANS / run


def snapshot_folder(root: Path, key: CohortKey) -> Path:
    """Return the folder that holds a cohort's snapshots; `root` is the ledger's."""
    kind = _SHADOWS if key.is_shadow else _SNAPSHOTS
    return root / kind / _cohort_name(key.partner) / _cohort_name(key.cohort_id)


def cohort_lock_path(root: Path, key: CohortKey) -> Path:
    """Return the file that is locked by whoever works on a cohort; `root` is the ledger's."""
    return root / _LOCKS / _cohort_name(key.partner) / f"{_cohort_name(key.cohort_id)}.lock"


def _cohort_name(text: str) -> str:
    name = quote(text, safe="").replace(".", "%2E")  # It may be a dot.
    return _shortened(name, text, _LONGEST_PARTNER, _LONGEST_PARTNER)


def generation_path(folder: Path, number: int) -> Path:
    """Return where a generation of a cohort's snapshots stands; `folder` is the cohort's."""
    return folder / f"{number:06}.parquet"


def generation_number(name: str) -> int | None:
    """Return the number of the generation that has this file name; None if it is no such name."""
    match = _GENERATION.fullmatch(name)
    return int(match[1]) if match else None


def operation_path(folder: Path, operation: Operation) -> Path:
    """Return where a plan keeps the uids of an operation; `folder` is the plan's."""
    return folder / f"{operation.value}s.parquet"


def places_path(folder: Path) -> Path:
    """Return where a plan keeps the places of its uids in the export; `folder` is the plan's."""
    return folder / "places.parquet"


def aside_path(path: Path, kind: str) -> Path:
    """Return where the uids of one kind are kept until they are appended to the file `path`."""
    return path.with_name(f"{path.stem}-{kind}.parquet")


def earlier_path(path: Path) -> Path:
    """Return where the earlier version of a snapshot is kept while `path` is made from it."""
    return path.with_name(f"earlier-{path.name}")


def recorded_path(folder: Path, operation: Operation, first_uid: int) -> Path:
    """Return where a recorded push keeps the uids of the batch that begins at `first_uid`."""
    return folder / f"{operation.value}-{first_uid:012}.parquet"


def recorded_batch(name: str) -> tuple[Operation, int] | None:
    """Return operation and first uid of a recorded batch's file name; None for another name."""
    match = _RECORDED.fullmatch(name)
    return (Operation(match[1]), int(match[2])) if match else None


def copies_folder() -> Path:
    """Return the folder of the copies of exports, which have no name. Raises `OSError` if none."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def fallback_folder(spill_dir: str | None) -> Path:
    """Return where temporary folders are made if the state folder is read-only."""
    return Path(spill_dir) if spill_dir else Path(tempfile.gettempdir())


def uid_locations(workspace_folder: Path, elsewhere: Iterable[Path] = ()) -> list[UidLocation]:
    """Return the files that may hold uids, sorted by path.

    `elsewhere` are folders in which temporary folders may be, such as `plan.spill_dir`. Links are
    not followed. Raises `OSError` for a folder that cannot be read.
    """
    found = {*_ledger_files(workspace_folder)}
    for name in UID_FOLDERS:
        found.update(_files_below(workspace_folder / name))
    for folder in (workspace_folder, *elsewhere):
        found.update(_temporary_files(folder))
    return sorted(found, key=lambda location: location.path)


def _ledger_files(folder: Path) -> Iterator[UidLocation]:
    for path in _entries(folder):
        content = _ledger_content(path.name)
        if content is not None:
            yield from _location(path, content)


def _ledger_content(name: str) -> UidContent | None:
    if name in {LEDGER_NAME, *(f"{LEDGER_NAME}-{kind}" for kind in ("wal", "shm", "journal"))}:
        return UidContent.LEDGER
    if is_ledger_backup(name):
        return UidContent.BACKUP
    return UidContent.RESCUED if name.startswith(_RESCUED) else None


def _temporary_files(folder: Path) -> Iterator[UidLocation]:
    """Yield the temporary files directly in `folder`, and those in its temporary folders."""
    for path in _entries(folder):
        if _TEMPORARY.fullmatch(path.name):
            if path.lstat().st_uid == os.geteuid():
                yield from _files_below(path)
        elif PART.fullmatch(path.name):
            yield from _location(path, UidContent.TEMPORARY)


def _files_below(folder: Path) -> Iterator[UidLocation]:
    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        for name in names:
            path = Path(parent, name)
            yield from _location(path, _content(folder.name, path.relative_to(folder)))


def _content(top: str, below: Path) -> UidContent:
    """Say what a file is by its path below one of the folders that hold uids."""
    folders = (top, *below.parts[:-1])
    if PART.fullmatch(below.name) or any(map(_TEMPORARY.fullmatch, folders)):
        return UidContent.TEMPORARY
    if top == _PLANS:
        return UidContent.RECORDING if recorded_batch(below.name) else UidContent.PLAN
    return UidContent.SHADOW if top == _SHADOWS else UidContent.SNAPSHOT


def _location(path: Path, content: UidContent) -> Iterator[UidLocation]:
    with suppress(FileNotFoundError):  # A run that goes on may have deleted it.
        found = path.lstat()
        if S_ISREG(found.st_mode):
            yield UidLocation(path, content, found.st_size)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
