"""A snapshot file of uids whose state is given, and an export that was read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from engine.planning.staging import EXPORT, stage
from engine.snapshot.file_format import SNAPSHOT, describe
from engine.snapshot.records import Snapshot, Staged, UidState
from engine.source.block import Block
from engine.storage.settings import PlanningSettings
from engine.storage.uid_parquet import write_batches
from engine.storage.uid_spool import open_spool

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


@contextmanager
def staged_in(folder: Path, blocks: Iterable[Block]) -> Iterator[Staged]:
    """Read an export to its end."""
    with open_spool(folder, EXPORT, SETTINGS) as spool:
        yield stage(blocks, spool)
