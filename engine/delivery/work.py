"""A batch on its way to the API, and how it comes apart."""

from dataclasses import dataclass

from engine.ledger.records import BatchPart, Division, OpenBatch, Registration, RejectedUid
from engine.payload.batch import Batch
from engine.payload.envelope import Envelope


@dataclass(slots=True)
class Work:
    """A batch, or a part of one, that is not settled yet."""

    number: int
    root: Batch
    """The batch as it was cut from the export."""
    offset: int
    """Place of the first uid in `root`."""
    uid_count: int
    payload: bytes
    isolated: bool = False
    """Whether it is part of a search for rejected uids."""
    attempts: int = 0
    """Requests so far, those of earlier executions included."""
    failures: int = 0
    """Failures in this execution."""

    @property
    def registration(self) -> Registration:
        """What the ledger needs to know of a batch as it was cut."""
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

    def rejection(self, reason: str, request_id: str | None) -> RejectedUid:
        """Name the only uid of this work, and where it stands in the export."""
        file, record = self.root.place(self.offset)
        [uid] = Envelope.uids_of(self.payload)
        return RejectedUid(file, record, uid, reason, request_id)


def divide(
    work: Work, next_number: int, *, isolated: bool, reason: str
) -> tuple[tuple[Work, Work], Division]:
    """Return both halves of a work of two uids or more, numbered from `next_number`."""
    uids = Envelope.uids_of(work.payload)
    middle = len(uids) // 2
    halves = (
        _part(work, next_number, 0, uids[:middle], isolated=isolated),
        _part(work, next_number + 1, middle, uids[middle:], isolated=isolated),
    )
    first, second = (
        BatchPart(half.number, work.root.first_uid + half.offset, half.uid_count, len(half.payload))
        for half in halves
    )
    return halves, Division((first, second), isolated, reason)


def reopen(batch: Batch, left: OpenBatch) -> Work:
    """Return the work that an earlier execution left open of a batch, which is cut again."""
    offset = left.first_uid - batch.first_uid
    whole = left.uid_count == batch.uid_count
    uids = Envelope.uids_of(batch.payload)[offset : offset + left.uid_count]
    return Work(
        number=left.number,
        root=batch,
        offset=offset,
        uid_count=left.uid_count,
        payload=batch.payload if whole else batch.envelope.enclose(uids),
        isolated=left.isolated,
        attempts=left.attempts,
    )


def _part(work: Work, number: int, start: int, uids: list[str], *, isolated: bool) -> Work:
    return Work(
        number=number,
        root=work.root,
        offset=work.offset + start,
        uid_count=len(uids),
        payload=work.root.envelope.enclose(uids),
        isolated=work.isolated or isolated,
    )
