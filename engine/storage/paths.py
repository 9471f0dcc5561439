"""The folders beside a ledger: they hold the uids of plans and snapshots."""

import hashlib
from pathlib import Path
from urllib.parse import quote

from engine.model.cohort import CohortKey, Operation

_LONGEST_NAME = 100
_LOCKS = "locks"
_PLANS, _SNAPSHOTS, _SHADOWS = FOLDERS_BESIDE = ("plans", "snapshots", "shadows")


def plan_folder(root: Path, run: str) -> Path:
    """Return the folder that holds the uids of a run, by its name; `root` is the ledger's."""
    return root / _PLANS / run


def snapshot_folder(root: Path, key: CohortKey) -> Path:
    """Return the folder that holds a cohort's snapshots; `root` is the ledger's."""
    kind = _SHADOWS if key.is_shadow else _SNAPSHOTS
    return root / kind / _name(key.partner) / _name(key.cohort_id)


def cohort_lock_path(root: Path, key: CohortKey) -> Path:
    """Return the file that is locked by whoever works on a cohort; `root` is the ledger's."""
    return root / _LOCKS / _name(key.partner) / f"{_name(key.cohort_id)}.lock"


def _name(text: str) -> str:
    # It may be longer than a folder's name may be, and may be a dot.
    name = quote(text, safe="").replace(".", "%2E")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def operation_path(folder: Path, operation: Operation) -> Path:
    """Return where a plan keeps the uids of an operation."""
    return folder / f"{operation.value}s.parquet"
