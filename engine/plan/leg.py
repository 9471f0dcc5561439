"""A stretch of a plan's leg, as blocks that can be cut into batches."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.batch import MEMBER_BYTES
from engine.cohort import Envelope
from engine.plan.staging import read_batches
from engine.source.block import Block


def leg_blocks(path: Path, start: int, stop: int) -> Iterator[Block]:
    """Yield the uids at the places from `start` up to `stop`, without the latter.

    Records are numbered by their place in the leg, from 1, and the file is called `adds` or
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
    """Return the first uids of a leg."""
    found: list[str] = []
    for block in leg_blocks(path, 0, count):
        found += block.uids.to_pylist()
    return found


def weigh(path: Path, envelope: Envelope, payload_bytes: int) -> tuple[int, int]:
    """Return about how many requests a leg takes, and how many bytes; escapes are left out."""
    uids = size = 0
    for batch in read_batches(path, ["uid"]):
        uids += len(batch)
        size += pc.sum(pc.binary_length(batch["uid"])).as_py() or 0
    if not uids:
        return 0, 0
    members = size + uids * MEMBER_BYTES
    requests = max(1, -(-members // (payload_bytes - len(envelope))))
    return requests, members + requests * len(envelope)
