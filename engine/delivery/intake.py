"""Turns batches from the export into work: numbers, registers and bounds them in size."""

from collections.abc import Iterator, Sequence

from engine.delivery.work import Work, reopen
from engine.ledger.records import OpenBatch, Registration
from engine.payload.batch import Batch
from engine.payload.limit import Limit


class Intake:
    """Numbers batches, and keeps the registrations that the ledger has not confirmed yet."""

    def __init__(
        self,
        next_number: int,
        left_open: Sequence[OpenBatch],
        limit: Limit,
        largest_accepted: int = 0,
    ) -> None:
        self.next_number = next_number
        """The number of the next batch or half."""
        self.largest_accepted = largest_accepted
        """Bytes of the largest payload that the API has accepted; 0 if none."""
        self._left_open = left_open
        self._limit = limit
        self._unregistered: list[Registration] = []

    def works_of(self, batch: Batch) -> Iterator[Work]:
        """Yield the work of a batch: all of it, or the parts an earlier execution left open."""
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

        They have to be entered in this order, independent of the order of sending: a run resumes
        after the last batch in the ledger. They are returned until `note_registered` confirms that
        they are on disk, so that a failed entry leaves no gap before a later one.
        """
        return list(self._unregistered)

    def note_registered(self, batches: Sequence[Registration]) -> None:
        """Note that these batches and all earlier ones are on disk."""
        if batches:
            last = batches[-1].number
            self._unregistered = [batch for batch in self._unregistered if batch.number > last]

    def is_too_large(self, work: Work) -> bool:
        """Return whether a batch is larger than the limit, so that it is not sent.

        A single uid can't be split, so the configured limit applies to it.
        """
        limit = self._limit.configured_bytes if work.uid_count == 1 else self._limit.payload_bytes
        return len(work.payload) > limit

    def note_accepted(self, size: int) -> None:
        """Note that the API accepted a payload of `size` bytes."""
        self.largest_accepted = max(self.largest_accepted, size)

    def lower_limit(self, size: int, half: int) -> None:
        """Lower the limit for later batches to `half` bytes, after a 413 for `size` bytes.

        The limit stays at or above the largest accepted size. A 413 for a size that was accepted
        before does not change it.
        """
        if size > self.largest_accepted:
            smaller = max(self.largest_accepted, half)
            self._limit.payload_bytes = min(self._limit.payload_bytes, smaller)
