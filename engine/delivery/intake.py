"""Batches from the export made into work: numbered, registered in order, and bounded in size."""

from collections.abc import Iterator, Sequence

from engine.delivery.work import Work, reopen
from engine.ledger.records import OpenBatch, Registration
from engine.payload.batch import Batch
from engine.payload.limit import Limit


class Intake:
    """Gives each batch its number, and keeps what is not known to be in the ledger yet."""

    def __init__(
        self,
        next_number: int,
        left_open: Sequence[OpenBatch],
        limit: Limit,
        largest_accepted: int = 0,
    ) -> None:
        self.next_number = next_number
        """Of the next batch, or half of one."""
        self.largest_accepted = largest_accepted
        """Bytes of the largest payload that the API has accepted; 0 if none."""
        self._left_open = left_open
        self._limit = limit
        self._unregistered: list[Registration] = []

    def works_of(self, batch: Batch) -> Iterator[Work]:
        """Yield the work of a batch: all of it, or what an earlier execution left open."""
        if batch.number is None:
            work = Work(self.next_number, batch, 0, batch.uid_count, batch.payload)
            self.next_number += 1
            self._unregistered.append(work.registration)
            yield work
            return
        for left in self._left_open:
            if batch.first_uid <= left.first_uid < batch.first_uid + batch.uid_count:
                yield reopen(batch, left)

    def registrations(self) -> list[Registration]:
        """Return the batches that may not be in the ledger yet, in the export's order.

        They have to be entered in that order, whichever is sent first: a run is resumed after the
        last one that the ledger holds. So they are returned again until `note_registered` confirms
        that they are on the disk: where an entry fails, none behind it may leave a gap.
        """
        return list(self._unregistered)

    def note_registered(self, batches: Sequence[Registration]) -> None:
        """Note that these are on the disk, and with them all before."""
        if batches:
            last = batches[-1].number
            self._unregistered = [batch for batch in self._unregistered if batch.number > last]

    def is_too_large(self, work: Work) -> bool:
        """Say whether a batch is known to be too large without sending it.

        A single uid can't be split: it is tried up to the limit that was configured.
        """
        limit = self._limit.configured_bytes if work.uid_count == 1 else self._limit.payload_bytes
        return len(work.payload) > limit

    def note_accepted(self, size: int) -> None:
        """Note a payload of `size` bytes that the API accepted."""
        self.largest_accepted = max(self.largest_accepted, size)

    def lower_limit(self, size: int, half: int) -> None:
        """Cut the batches to come as small as `half`, after a 413 for one of `size` bytes.

        A 413 for a size that was accepted before does not show what the API's limit is.
        """
        if size > self.largest_accepted:
            smaller = max(self.largest_accepted, half)
            self._limit.payload_bytes = min(self._limit.payload_bytes, smaller)
