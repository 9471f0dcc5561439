"""A stretch of a plan's operation, as blocks that can be cut into batches."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.source.block import Block
from engine.storage.uid_parquet import read_batches


def operation_blocks(path: Path, start: int, stop: int) -> Iterator[Block]:
    """Yield the uids at the places from `start` up to `stop`, without the latter.

    Records are numbered by their place in the operation, from 1, and the file is called `adds` or
    `removes`: where in the export a uid stood is not kept.
    """
    place = 0
    for batch in read_batches(path, ["uid"]):
        first, last = max(start, place), min(stop, place + len(batch))
        if first < last:
            uids = batch["uid"].slice(first - place, last - first).cast(pa.string())
            yield Block(path.stem, first + 1, len(uids), uids, ())
        place += len(batch)
        if place >= stop:
            return


def sample(path: Path, count: int) -> list[str]:
    """Return the first `count` uids of an operation."""
    found: list[str] = []
    for block in operation_blocks(path, 0, count):
        found += block.uids.to_pylist()
    return found


def place_of(path: Path, uid: str) -> int | None:
    """Return the place of a uid in an operation's file; None if it is not there."""
    wanted = pa.scalar(uid.encode(), pa.binary())
    start = 0
    for batch in read_batches(path, ["uid"]):
        place: int = pc.index(batch["uid"], wanted).as_py()
        if place >= 0:
            return start + place
        start += len(batch)
    return None
