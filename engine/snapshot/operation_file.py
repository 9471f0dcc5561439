"""A stretch of a plan's leg, as blocks that can be cut into batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from engine.model.cohort import Envelope
from engine.payload.member_json import MEMBER_BYTES
from engine.snapshot.records import PlannedLeg
from engine.source.block import Block
from engine.storage.uid_parquet import read_batches


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
    """Return the first `count` uids of a leg."""
    found: list[str] = []
    for block in leg_blocks(path, 0, count):
        found += block.uids.to_pylist()
    return found


def place_of(path: Path, uid: str) -> int | None:
    """Return the place of a uid in a leg's file; None if it is not there."""
    wanted = pa.scalar(uid.encode(), pa.binary())
    start = 0
    for batch in read_batches(path, ["uid"]):
        place: int = pc.index(batch["uid"], wanted).as_py()
        if place >= 0:
            return start + place
        start += len(batch)
    return None


@dataclass(frozen=True, slots=True)
class Weight:
    """About what it takes to send something."""

    requests: int = 0
    bytes: int = 0

    def __add__(self, other: "Weight") -> "Weight":
        return Weight(self.requests + other.requests, self.bytes + other.bytes)


def weigh(leg: PlannedLeg, envelope: Envelope, payload_bytes: int) -> Weight:
    """Return about what a leg takes; escapes are left out."""
    if not leg.planned:
        return Weight()
    size = sum(
        pc.sum(pc.binary_length(block.uids)).as_py() or 0
        for block in leg_blocks(leg.path, 0, leg.planned)
    )
    members = size + leg.planned * MEMBER_BYTES
    requests = max(1, -(-members // (payload_bytes - len(envelope))))
    return Weight(requests, members + requests * len(envelope))
