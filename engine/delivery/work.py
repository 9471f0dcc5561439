"""The unsettled work of a batch, and how it is split."""

from dataclasses import dataclass

import pyarrow as pa

from engine.ledger.records import BatchPart, Division, OpenBatch, Registration, RejectedUid
from engine.payload.batch import Batch
from engine.payload.member_json import members_of


@dataclass(slots=True)
class Work:
    """A batch, or a part of one, that is not settled."""

    number: int
    root: Batch
    """The batch as it was cut from the export."""
    offset: int
    """Index of the first uid in `root`."""
    uid_count: int
    payload: bytes
    isolated: bool = False
    """Whether it is part of a search for rejected uids."""
    attempts: int = 0
    """Requests so far, including those of earlier executions."""
    failures: int = 0
    """Failures in this execution."""

    @property
    def uids(self) -> pa.StringArray:
        """The uids: a slice of the uids of `root`."""
        return self.root.uids.slice(self.offset, self.uid_count)

    @property
    def registration(self) -> Registration:
        """The ledger's record of the batch as it was cut."""
        root = self.root
        return Registration(
            number=self.number,
            operation=root.operation,
            first_uid=root.first_uid,
            uid_count=root.uid_count,
            blank=root.blank,
            invalid=root.invalid,
            records_through=root.records_through,
            is_last=root.is_last,
            payload_bytes=len(root.payload),
            digest=root.digest,
            skipped=root.skipped,
            file_uids=root.file_uids,
        )

    @property
    def place(self) -> tuple[str, int]:
        """Export file and record number of the first uid; for a plan, this may read a file."""
        return self.root.place(self.offset)

    def rejection(self, place: tuple[str, int], reason: str, request_id: str | None) -> RejectedUid:
        """Return the only uid of this work, located at `place`, as rejected."""
        [uid] = self.uids.to_pylist()
        return RejectedUid(*place, uid, reason, request_id)


def divide(
    work: Work, next_number: int, *, isolated: bool, reason: str
) -> tuple[tuple[Work, Work], Division]:
    """Return both halves of work with at least two uids, numbered from `next_number`."""
    middle = work.uid_count // 2
    isolated_halves = work.isolated or isolated
    halves = (
        _part(work.root, next_number, work.offset, middle, isolated=isolated_halves),
        _part(
            *(work.root, next_number + 1, work.offset + middle, work.uid_count - middle),
            isolated=isolated_halves,
        ),
    )
    first, second = (
        BatchPart(half.number, work.root.first_uid + half.offset, half.uid_count, len(half.payload))
        for half in halves
    )
    return halves, Division((first, second), isolated, reason)


def reopen(batch: Batch, left: OpenBatch) -> Work:
    """Return the open part of a batch that an earlier execution left; `batch` is cut again."""
    if left.uid_count == batch.uid_count:
        work = Work(left.number, batch, 0, batch.uid_count, batch.payload, left.isolated)
    else:
        offset = left.first_uid - batch.first_uid
        work = _part(batch, left.number, offset, left.uid_count, isolated=left.isolated)
    work.attempts = left.attempts
    return work


def _part(root: Batch, number: int, offset: int, uid_count: int, *, isolated: bool) -> Work:
    """Return a part of a batch as work, with a payload encoded from its uids."""
    members = members_of(root.uids.slice(offset, uid_count))
    payload = root.envelope.enclose(members)
    return Work(number, root, offset, uid_count, payload, isolated)
