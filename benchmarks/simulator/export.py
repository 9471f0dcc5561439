"""An export of so many uids that takes no room: one full batch, over and over."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from engine.payload.batch import Batch
from engine.payload.cutter import Cutter
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.payload.member_json import MEMBER_BYTES, members_of
from engine.source.block import Block


def full_batch(uid_bytes: int, envelope: Envelope, payload_bytes: int) -> Batch:
    """Cut one payload's worth of uids of `uid_bytes` ASCII characters each."""
    enough = payload_bytes // (uid_bytes + MEMBER_BYTES) + 1
    uids = pa.array(["0" * uid_bytes] * enough, pa.string())
    block = Block("simulated", 1, enough, uids, skipped=())
    return next(Cutter(envelope, Limit.of(payload_bytes)).batches([block]))


@dataclass(frozen=True, slots=True)
class Export:
    """`uids` uids, cut into batches like `full`, and when each batch is ready."""

    uids: int
    full: Batch
    envelope: Envelope
    pause_before: Callable[[int], float] = lambda _: 0.0
    """Seconds from one batch's being taken to when the next, numbered from 0, is ready."""

    def batches(self) -> Iterator[Batch]:
        """Yield the batches in order; they share one payload, but for the last."""
        size = self.full.uid_count
        for first in range(0, self.uids, size):
            through = min(first + size, self.uids)
            batch = replace(self.full, first_uid=first, records_through=through)
            if through < self.uids:
                yield batch
                continue
            uids = self.full.uids.slice(0, through - first)
            payload = self.envelope.enclose(members_of(uids))
            yield replace(batch, uids=uids, payload=payload, is_last=True)


class Reader:
    """Reads an export in virtual time, as `ReadAhead` does in a thread."""

    def __init__(self, export: Export, wake: Callable[[], None]) -> None:
        self._batches = export.batches()
        self._pause_before = export.pause_before
        self._wake = wake
        self._taken = 0
        self._next: Batch | None = None
        self.is_dry = False
        """Whether nothing is left to take, now or later."""
        self.failure: BaseException | None = None
        """Nothing: this export can always be read."""

    def start(self) -> None:
        """Begin to read."""
        self._read()

    def take(self) -> Batch | None:
        """Return the next batch, or None if none is ready."""
        batch, self._next = self._next, None
        if batch is not None:
            self._taken += 1
            self._read()
        return batch

    def stop(self) -> None:
        """Read no further."""
        self._batches = iter(())

    def _read(self) -> None:
        pause = self._pause_before(self._taken)
        if pause > 0:
            asyncio.get_running_loop().call_later(pause, self._ready)
        else:
            self._ready()

    def _ready(self) -> None:
        self._next = next(self._batches, None)
        self.is_dry = self._next is None
        self._wake()
