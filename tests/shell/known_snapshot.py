"""A snapshot file of uids whose state is given."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from engine.snapshot.file_format import SNAPSHOT, describe
from engine.snapshot.records import Snapshot, UidState
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import write_batches

SETTINGS = PlanningSettings(memory_megabytes=64, threads=1)
Known = Mapping[str, tuple[UidState, int]]


def snapshot_of(known: Known, path: Path) -> Snapshot:
    rows = {
        "uid": [uid.encode() for uid in known],
        "state": [int(state) for state, _ in known.values()],
        "run": [run for _, run in known.values()],
    }
    write_batches(path, SNAPSHOT, pa.table(rows, schema=SNAPSHOT).to_batches())
    return describe(path)
