"""Builds every path that may hold uids, so that all of them can be listed and erased.

    STATE/ENDPOINT/WORKSPACE/               a workspace's folder
        ledger.sqlite, -wal, -shm, -journal the ledger; `UID_COLUMNS` names its columns with uids
        ledger.sqlite.vN.bak, .bak.M        the ledger before a migration
        ledger.sqlite.put-back-PID          the ledger rewritten after its file was removed
        plans/RUN/                          a plan's operations, or the batches of a recorded push
        snapshots/PARTNER/COHORT/           what the API acknowledged
        shadows/PARTNER/COHORT/             the same, as if each dry run had been sent
        queries/NAME.parquet                the result of a query that a push reads
    STATE/before-restore-TIME/ENDPOINT/…    the state that `restore` has replaced
    STATE/restore-unfinished                exists while `restore` replaces the state
    any of these, or `plan.spill_dir`:
        cohortsync-PURPOSE-XXXXXXXX/        a temporary folder
        .cohortsync-XXXXXXXX.part           a file until it is complete

The uids that a plan compares are in files without names, in the cohort's folder of snapshots or in
`plan.spill_dir`. So is the copy of an export that can be read only once, in `copies_folder`.
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
from urllib.parse import quote, unquote

from engine.model.cohort import CohortKey, Operation
from engine.model.endpoint import Endpoint

LEDGER_NAME = "ledger.sqlite"
_BACKUP = re.compile(rf"{re.escape(LEDGER_NAME)}\.v[0-9]+\.bak(\.[0-9]+)?")
_RESCUED = f"{LEDGER_NAME}.put-back-"

LOCKS_NAME = "locks"
"""The folder of the locks of cohorts, in a workspace's folder."""
LEDGER_ID_NAME = "ledger-id"
"""A file that identifies the ledger beside it to other hosts; only if hosts share a ceiling."""
_PLANS, _SNAPSHOTS, _SHADOWS = UID_FOLDERS = ("plans", "snapshots", "shadows")
"""The folders of a workspace that hold files of uids, of which its ledger knows."""
_QUERIES = "queries"
_RECORDED = re.compile(r"(add|remove|resend)-([0-9]+)\.parquet")
_GENERATION = re.compile(r"([0-9]{6,})\.(?:parquet|json)")

TEMPORARY_PREFIX = "cohortsync-"
"""Prefix of the name of a temporary folder; its purpose and eight characters follow."""
PART_PREFIX, PART_SUFFIX = ".cohortsync-", ".part"
"""Prefix and suffix of the name of a file that is being written."""
PART = re.compile(r"\.cohortsync-[a-z0-9_]{8}\.part")

_LONGEST_NAME = 255
"""Longest name in a file system, in bytes."""
_LONGEST_PARTNER = 100
"""Longest name of a partner or cohort in a path, in bytes."""
_DIGEST_CHARACTERS = 16


class TemporaryPurpose(StrEnum):
    """The purpose of a temporary folder; part of its name."""

    LIST = "list"
    IMPORT = "import"
    SESSION = "session"
    BACKUP = "backup"
    RESTORE = "restore"


_EARLIER_PURPOSES = ("plan", "fold", "spill")
"""Purposes of temporary folders that a killed process of an earlier version may have left."""
_PURPOSES = "|".join([*TemporaryPurpose, *_EARLIER_PURPOSES])
_TEMPORARY = re.compile(rf"{TEMPORARY_PREFIX}({_PURPOSES})-[a-z0-9_]{{8}}")


class TemporaryName(StrEnum):
    """A file of uids in a temporary folder."""

    IMPORT = "copy.parquet"
    """An imported snapshot until it is verified."""
    CANDIDATE = "candidate.parquet"
    """A snapshot that becomes the current one when its plan is sent."""
    ROWS = "rows-{}.parquet"
    """The rows of a snapshot that is kept in a database."""


class UidContent(StrEnum):
    """The content of a file that may hold uids."""

    LEDGER = "ledger"
    BACKUP = "ledger backup"
    RESCUED = "rescued ledger"
    PLAN = "plan"
    RECORDING = "recorded push"
    SNAPSHOT = "snapshot"
    SHADOW = "dry-run snapshot"
    QUERY = "query result"
    TEMPORARY = "temporary file"


@dataclass(frozen=True, slots=True)
class UidLocation:
    """A file that may hold uids."""

    path: Path
    content: UidContent
    bytes: int


def ledger_folder(state: Path, endpoint_url: str, workspace: str) -> Path:
    """Return the folder of one workspace at one endpoint; trial and production are separate."""
    return state / _folder_name(endpoint_url) / _folder_name(workspace)


def workspace_names(folder: Path) -> tuple[str, str]:
    """Return the names of the folders of a workspace's endpoint and of the workspace.

    They are those of a new folder, the same for all spellings of the endpoint; `folder` is the
    workspace's, whose endpoint an older version may have spelled otherwise.
    """
    endpoint = folder.parent.name
    with suppress(ValueError):  # A shortened name cannot be parsed, and has one spelling.
        endpoint = _folder_name(Endpoint.parse(unquote(endpoint)).identity)
    return endpoint, folder.name


def _folder_name(text: str) -> str:
    """Return a valid name for a subfolder: no path, no `..`, and not too long."""
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
    """Return SQLite's file of changes that are not yet in the ledger's own file."""
    return ledger.with_name(f"{ledger.name}-wal")


def ledger_index(ledger: Path) -> Path:
    """Return the file that SQLite's processes use to find a row in the log."""
    return ledger.with_name(f"{ledger.name}-shm")


def ledger_backup(ledger: Path, version: int) -> Path:
    """Return the copy that is made before a migration from `version`."""
    return ledger.with_name(f"{ledger.name}.v{version}.bak")


def is_ledger_backup(name: str) -> bool:
    """Return whether a file in a workspace's folder is a backup of its ledger."""
    return _BACKUP.fullmatch(name) is not None


def rescued_ledger(ledger: Path) -> Path:
    """Return the file that this process writes if the ledger's own file was removed."""
    return ledger.with_name(f"{_RESCUED}{os.getpid()}")


def plans_folder(root: Path) -> Path:
    """Return the folder of the folders with the uids of runs; `root` is the ledger's folder."""
    return root / _PLANS


_RUN_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")


def is_run_name(name: str) -> bool:
    """Return whether a name has the form that this program gives to runs."""
    return _RUN_NAME.fullmatch(name) is not None


def workspace_folders(state: Path) -> list[Path]:
    """Return the folders of all workspaces below a state folder, sorted. Raises `OSError`."""
    endpoints = [each for each in _entries(state) if each.name.startswith("http")]
    return sorted(each for folder in endpoints for each in _entries(folder) if each.is_dir())


_SET_ASIDE = "before-restore-"


def set_aside_folder(state: Path, time: str) -> Path:
    """Return the folder for the state that a restore replaces; `time` is part of its name."""
    return state / f"{_SET_ASIDE}{time}"


def set_aside_folders(state: Path) -> list[Path]:
    """Return the folders with states that restores have replaced, sorted. Raises `OSError`."""
    return sorted(each for each in _entries(state) if each.name.startswith(_SET_ASIDE))


def restore_mark(state: Path) -> Path:
    """Return the file that exists while a restore replaces the state."""
    return state / "restore-unfinished"


def plan_folder(root: Path, run: str) -> Path:
    """Return the folder with the uids of a run; `root` is the ledger's folder."""
    return root / _PLANS / run


def queries_folder(root: Path) -> Path:
    """Return the folder of the results of queries; `root` is the ledger's folder."""
    return root / _QUERIES


def snapshot_folder(root: Path, key: CohortKey) -> Path:
    """Return the folder of a cohort's snapshots; `root` is the ledger's folder."""
    kind = _SHADOWS if key.is_shadow else _SNAPSHOTS
    return root / kind / _cohort_name(key.partner) / _cohort_name(key.cohort_id)


def cohort_lock_path(root: Path, key: CohortKey) -> Path:
    """Return the lock file of a cohort; `root` is the ledger's folder."""
    return root / LOCKS_NAME / _cohort_name(key.partner) / f"{_cohort_name(key.cohort_id)}.lock"


def _cohort_name(text: str) -> str:
    name = quote(text, safe="").replace(".", "%2E")  # It may be a dot.
    return _shortened(name, text, _LONGEST_PARTNER, _LONGEST_PARTNER)


def generation_path(folder: Path, number: int) -> Path:
    """Return the path of one generation of a cohort's snapshots, in the cohort's `folder`."""
    return folder / f"{number:06}.parquet"


def record_path(path: Path) -> Path:
    """Return the path of the record of a generation whose rows are in a database.

    `path` is that of its file if its rows were in one.
    """
    return path.with_suffix(".json")


def is_uid_file(name: str) -> bool:
    """Return whether a complete file with this name holds the uids of a snapshot or a run."""
    return name.endswith(".parquet")


def is_record(name: str) -> bool:
    """Return whether a file has the name of a record of a generation that is in a database."""
    return generation_number(name) is not None and not is_uid_file(name)


def generation_number(name: str) -> int | None:
    """Return the number of the generation with this file name; None for another name."""
    match = _GENERATION.fullmatch(name)
    return int(match[1]) if match else None


def operation_path(folder: Path, operation: Operation) -> Path:
    """Return the path of the uids of an operation, in the plan's `folder`."""
    return folder / f"{operation.value}s.parquet"


def places_path(folder: Path) -> Path:
    """Return the path of the places of a plan's uids in the export, in the plan's `folder`."""
    return folder / "places.parquet"


def aside_path(path: Path, kind: str) -> Path:
    """Return the path of the uids of one kind until they are appended to the file `path`."""
    return path.with_name(f"{path.stem}-{kind}.parquet")


def earlier_path(path: Path) -> Path:
    """Return the path of the earlier version of a snapshot while `path` is made from it."""
    return path.with_name(f"earlier-{path.name}")


def recorded_path(folder: Path, operation: Operation, first_uid: int) -> Path:
    """Return the path of the uids of a recorded push's batch that begins at `first_uid`."""
    return folder / f"{operation.value}-{first_uid:012}.parquet"


def recorded_batch(name: str) -> tuple[Operation, int] | None:
    """Return operation and first uid in a recorded batch's file name; None for another name."""
    match = _RECORDED.fullmatch(name)
    return (Operation(match[1]), int(match[2])) if match else None


def copies_folder() -> Path:
    """Return the folder of the unnamed copies of exports. Raises `OSError` if there is none."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def fallback_folder(spill_dir: str | None) -> Path:
    """Return the parent of temporary folders if the state folder is read-only."""
    return Path(spill_dir) if spill_dir else Path(tempfile.gettempdir())


def uid_locations(workspace_folder: Path, elsewhere: Iterable[Path] = ()) -> list[UidLocation]:
    """Return the files that may hold uids, sorted by path.

    `elsewhere` are other parents of temporary folders, such as `plan.spill_dir`. Links are not
    followed. Raises `OSError` for a folder that cannot be read.
    """
    found: set[UidLocation] = set()
    for path in _entries(workspace_folder):
        if path.name in {*UID_FOLDERS, _QUERIES}:
            found.update(_files_below(path))
        elif content := _ledger_content(path.name):
            found.update(_location(path, content))
    for folder in (workspace_folder, *elsewhere):
        found.update(_temporary_files(folder))
    return sorted(found, key=lambda location: location.path)


def _ledger_content(name: str) -> UidContent | None:
    if name in {LEDGER_NAME, *(f"{LEDGER_NAME}-{kind}" for kind in ("wal", "shm", "journal"))}:
        return UidContent.LEDGER
    if is_ledger_backup(name):
        return UidContent.BACKUP
    return UidContent.RESCUED if name.startswith(_RESCUED) else None


def _temporary_files(folder: Path) -> Iterator[UidLocation]:
    """Yield the temporary files in `folder` and in its temporary folders."""
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
    """Return a file's content by its path below one of the folders that hold uids."""
    folders = (top, *below.parts[:-1])
    if PART.fullmatch(below.name) or any(map(_TEMPORARY.fullmatch, folders)):
        return UidContent.TEMPORARY
    if top == _PLANS:
        return UidContent.RECORDING if recorded_batch(below.name) else UidContent.PLAN
    if top == _QUERIES:
        return UidContent.QUERY
    return UidContent.SHADOW if top == _SHADOWS else UidContent.SNAPSHOT


def _location(path: Path, content: UidContent) -> Iterator[UidLocation]:
    with suppress(FileNotFoundError):  # A running process may have deleted it.
        found = path.lstat()
        if S_ISREG(found.st_mode):
            yield UidLocation(path, content, found.st_size)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
