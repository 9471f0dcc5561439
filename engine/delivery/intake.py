"""Batches from the export made into work: numbered, entered in order, and halved where need be."""

from collections.abc import Iterator, Sequence

from engine.delivery.work import Work, divide, reopen
from engine.ledger.records import Division, OpenBatch, Registration
from engine.payload.batch import Batch, Limit


class Intake:
    """Gives each batch its number, and keeps what the ledger has yet to hear of it."""

    def __init__(
        self,
        next_number: int,
        left_open: Sequence[OpenBatch],
        limit: Limit,
        largest_accepted: int = 0,
    ) -> None:
        self._next_number = next_number
        self._left_open = left_open
        self._limit = limit
        self._largest_accepted = largest_accepted
        self._unregistered: list[Registration] = []

    def works_of(self, batch: Batch) -> Iterator[Work]:
        """Yield the work of a batch: all of it, or what an earlier execution left open."""
        if batch.number is None:
            work = Work(self._next_number, batch, 0, batch.uid_count, batch.payload)
            self._next_number += 1
            self._unregistered.append(work.registration)
            yield work
            return
        for left in self._left_open:
            if batch.first_uid <= left.first_uid < batch.first_uid + batch.uid_count:
                yield reopen(batch, left)

    def registrations(self) -> list[Registration]:
        """Return the batches that the ledger may not have heard of, in the export's order.

        It has to hear of them in that order, whichever is sent first: a run is resumed after the
        last one that it knows. So they are told again until `note_registered` says that they are
        on the disk: where an entry fails, none behind it may leave a gap.
        """
        return list(self._unregistered)

    def note_registered(self, batches: Sequence[Registration]) -> None:
        """Hear that these are on the disk, and with them all before."""
        if batches:
            last = batches[-1].number
            self._unregistered = [batch for batch in self._unregistered if batch.number > last]

    def is_too_large(self, work: Work) -> bool:
        """Say whether a batch need not be sent to know that the API will not take it.

        A single uid can't be cut down: it is tried up to the limit that was configured.
        """
        limit = self._limit.configured_bytes if work.uid_count == 1 else self._limit.payload_bytes
        return len(work.payload) > limit

    def divide(self, work: Work, *, isolated: bool, reason: str) -> tuple[Sequence[Work], Division]:
        """Return both halves of a work of two uids or more, and what the ledger enters."""
        halves, division = divide(work, self._next_number, isolated=isolated, reason=reason)
        self._next_number += len(halves)
        return halves, division

    def note_accepted(self, size: int) -> None:
        """Hear of a payload of `size` bytes that the API took."""
        self._largest_accepted = max(self._largest_accepted, size)

    def is_size_independent(self, work: Work) -> bool:
        """Say whether a 413 for a single uid is not about its size: as much was accepted before."""
        return work.uid_count == 1 and len(work.payload) <= self._largest_accepted

    def lower_limit(self, size: int, half: int) -> None:
        """Cut the batches to come as small as `half`, after a 413 for one of `size` bytes.

        A 413 for what was accepted before is a whim of the far side, and no news of its limit.
        """
        if size > self._largest_accepted:
            smaller = max(self._largest_accepted, half)
            self._limit.payload_bytes = min(self._limit.payload_bytes, smaller)
