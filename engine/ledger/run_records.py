"""What the ledger says of runs and of their uids, as reports read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import MIRROR
from engine.pacing.pacer import PaceRecord
from engine.source.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as it was begun, and how it stands."""

    number: int
    name: str
    endpoint: str
    workspace: str
    partner: str
    cohort_id: str
    cohort_name: str
    cohort_description: str | None
    action: str
    """`add`, `remove` or `mirror`."""
    status: str
    """A run that its process left without an end is still `running`."""
    exit_status: int | None
    reason: str | None
    started_utc_ns: int
    finished_utc_ns: int | None
    source_complete: bool
    """Whether the export was read to its end."""

    @property
    def is_mirror(self) -> bool:
        """Whether it plans adds and removes."""
        return self.action == MIRROR


@dataclass(frozen=True, slots=True)
class StoredRequest(RunEntry):
    """A run with how it was asked for, so that it can be resumed."""

    identity: bytes
    """Digest that the command which goes on with it has to share."""
    spec: SourceSpec

    @property
    def target(self) -> tuple[str, str, str]:
        """Endpoint, workspace and partner."""
        return self.endpoint, self.workspace, self.partner


class StandingTotal(NamedTuple):
    """Batches of one operation with the same standing; batches that were split are left out."""

    standing: str
    """`accepted`, `rejected`, `unconfirmed` or `pending`."""
    operation: str
    batches: int
    uids: int


class PlannedTotal(NamedTuple):
    """Uids of one operation that were cut from the export."""

    operation: str
    uids: int


class SendSpan(NamedTuple):
    """The requests that one execution sent."""

    execution: int
    requests: int
    nanoseconds: int
    """From the first request to the last."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums over the batches and attempts of one run."""

    records: int
    """Rows read of the export, by the reader's count."""
    blank: int
    invalid: int
    standings: Sequence[StandingTotal]
    planned: Sequence[PlannedTotal]
    roots: int
    """Batches cut from the export."""
    splits: int
    """Batches that were split in two."""
    sent: int
    accepted: int
    throttled: int
    retried: int
    split: int
    """Attempts that were answered so that the batch was split."""
    bytes: int
    """Of the payloads sent."""
    room: int
    """Bytes that the payload limit would have let them hold."""
    rejected_again: int
    """Uids of a mirror that were rejected, and had been rejected by an earlier run."""
    spans: Sequence[SendSpan]


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One process that worked on a run, and the limits that it worked under."""

    number: int
    requests: int
    per_seconds: float
    started_utc_ns: int
    ended_utc_ns: int | None
    """None while it works, or where it died."""
    pace: PaceRecord | None
    """None while it works, where it died, and where it sent nothing."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """All that a run's accounts are folded from."""

    entry: RunEntry
    totals: RunTotals
    executions: Sequence[ExecutionRecord]
    """In their order; at least one."""
    plan: PlanRecord | None
    """None for a push, and for a mirror that ended before it had planned."""


class AttemptRecord(NamedTuple):
    """An attempt beside its batch. All of the attempt is None for a batch without one.

    A named tuple, since a run may have millions of them and each is made only to be printed.
    """

    batch: int
    parent: int | None
    first_uid: int
    uid_count: int
    payload_bytes: int
    state: str
    attempt: int | None
    intended_utc_ns: int | None
    sent_utc_ns: int | None
    ended_utc_ns: int | None
    outcome: str | None
    http_status: int | None
    request_id: str | None
    reason: str | None
    """Of the attempt; of the batch where there is none."""
    may_have_been_applied: bool
    """Whether an attempt of the batch may have been applied, although it was not accepted."""


@dataclass(frozen=True, slots=True)
class RejectRecord:
    """A rejected uid, or rows that follow each other and planned no uid for the same reason."""

    kind: str
    """`rejected`, `invalid` or `blank`."""
    file: str
    record: int
    """Number of the first row in its file, from 1."""
    count: int
    """Rows; 1 for a rejected uid."""
    reason: str
    uid: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class EarlierRejection:
    """How an earlier run had a uid rejected."""

    run: str
    reason: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class UidAttempt:
    """The last attempt to send the batch that held a uid."""

    batch: int
    attempt: int
    outcome: str | None
    """None as long as it is under way, or where its process died."""
    at_utc_ns: int
    """When it was sent; when it was intended where that is unknown."""
    http_status: int | None
    request_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class UidRejection:
    """A run's rejection of a uid."""

    run: str
    at_utc_ns: int
    reason: str
    request_id: str | None
