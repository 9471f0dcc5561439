"""The size of the state folder, by kind of file."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.storage.paths import (
    UidContent,
    set_aside_folders,
    uid_locations,
    workspace_folders,
)

_KINDS: Mapping[UidContent, str] = {
    UidContent.LEDGER: "ledger",
    UidContent.BACKUP: "ledger_backups",
    UidContent.RESCUED: "ledger_backups",
    UidContent.SNAPSHOT: "snapshots",
    UidContent.SHADOW: "dry_run_snapshots",
    UidContent.PLAN: "plans",
    UidContent.RECORDING: "recordings",
    UidContent.TEMPORARY: "staging",
    UidContent.QUERY: "queries",
}
_SET_ASIDE = "set_aside"

KINDS = (*dict.fromkeys(_KINDS.values()), _SET_ASIDE)
"""The kinds of files in a state folder: the keys of `state_usage`."""


def state_usage(state: Path, elsewhere: Iterable[Path] = ()) -> dict[str, int]:
    """Return the bytes of the files in a state folder, by `KINDS`.

    `ledger_backups`: from before a migration; `staging`: temporary files of runs; `queries`: the
    results of queries; `set_aside`: states that `restore` has replaced. `elsewhere` are other
    parents of temporary folders, such as `plan.spill_dir`. The uids that a plan compares, and the
    copies of exports that can be read only once, are in files without names, and are not included.
    Raises `OSError`.
    """
    bytes_of: Counter[str] = Counter()
    others = list(elsewhere)
    for folder in workspace_folders(state):
        for found in uid_locations(folder, others):
            bytes_of[_KINDS[found.content]] += found.bytes
        others = []  # They are counted once.
    for folder in set_aside_folders(state):
        bytes_of[_SET_ASIDE] += sum(
            (Path(parent) / name).lstat().st_size
            for parent, _, names in os.walk(folder)
            for name in names
        )
    return {kind: bytes_of[kind] for kind in KINDS}
