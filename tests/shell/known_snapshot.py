"""A snapshot file of uids whose state is given, and an export that was read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from engine.planning.staging import EXPORT, stage
from engine.snapshot.records import Snapshot, Staged, UidState
from engine.snapshot.sorted_file import SNAPSHOT, StateCounts, bits_for, write_sorted
from engine.source.block import Block
from engine.storage.files import digest_of
from engine.storage.settings import PlanningSettings
from engine.storage.uid_groups import group_uids
from engine.storage.uid_parquet import read_batches, write_batches
from engine.storage.uid_spool import open_spool

SETTINGS = PlanningSettings(memory_megabytes=64, threads=1)
Known = Mapping[str, tuple[UidState, int]]


def describe(path: Path) -> Snapshot:
    """Return the snapshot in a file."""
    counts = StateCounts()
    for batch in read_batches(path, ["state"]):
        counts.add(batch["state"])
    return Snapshot(path, counts.census, digest_of(path))


def snapshot_of(known: Known, path: Path, *, is_sorted: bool = False) -> Snapshot:
    """Write a snapshot, as this version does if `is_sorted`, or else as older ones did."""
    rows = {
        "uid": [uid.encode() for uid in known],
        "state": [int(state) for state, _ in known.values()],
        "run": [run for _, run in known.values()],
    }
    table = pa.table(rows, schema=SNAPSHOT).combine_chunks()
    if not is_sorted:
        write_batches(path, SNAPSHOT, table.to_batches())
        return describe(path)
    if not len(table):
        return write_sorted(path, [])
    groups = group_uids([table["uid"].combine_chunks()])
    [batch] = table.take(pa.array(groups.order)).combine_chunks().to_batches()
    bits = bits_for(len(batch), batch.nbytes)
    return write_sorted(path, [(batch, groups.hashes[groups.order])], bits)


@contextmanager
def staged_in(folder: Path, blocks: Iterable[Block]) -> Iterator[Staged]:
    """Read an export to its end."""
    with open_spool(folder, EXPORT, SETTINGS) as spool:
        yield stage(blocks, spool)
