"""What the ledger records of runs and of their uids, as reports read it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.ledger.plan_records import PlanRecord
from engine.ledger.records import MIRROR
from engine.model.cohort import CohortKey
from engine.pacing.pacer import PaceRecord
from engine.source.source_file import SourceFile
from engine.source.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run: how it began, and its status."""

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
    """A run that its process did not end is still `running`."""
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
class RunFilter:
    """Which runs are wanted; None selects all."""

    prefix: str = ""
    """The beginning of their names."""
    statuses: Sequence[str] | None = None
    cohort_id: str | None = None
    since_utc_ns: int | None = None
    """For runs that began at that time or later."""
    is_mirror: bool | None = None


ALL_RUNS = RunFilter()


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """A plan that was kept for `apply`, and what may prevent that."""

    run: RunEntry
    plan: PlanRecord
    is_closed: bool
    later_run: str | None
    """A run that has mirrored the cohort, or pushed to it, after the plan."""
    current_generation: int | None
    """The number of the cohort's current snapshot; None if there is none."""


@dataclass(frozen=True, slots=True)
class StoredRequest(RunEntry):
    """A run with how it was requested, so that it can be resumed."""

    identity: bytes
    """Digest that a command must share to resume it."""
    spec: SourceSpec

    @property
    def target(self) -> tuple[str, str, str]:
        """Endpoint, workspace and partner."""
        return self.endpoint, self.workspace, self.partner

    @property
    def cohort_key(self) -> CohortKey:
        """The cohort in its workspace."""
        return CohortKey(self.partner, self.cohort_id)


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
    """Rows of the export that were read, by the reader's count."""
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
    """Attempts after whose answer the batch was split."""
    bytes: int
    """The bytes of the payloads sent."""
    room: int
    """Bytes that the payload limit would have allowed them."""
    rejected_again: int
    """Uids of a mirror that were rejected, and had been rejected by an earlier run."""
    spans: Sequence[SendSpan]
    excluded: int = 0
    """Rows of a push that were excluded; earlier versions stored no such number."""

    @property
    def are_settled(self) -> bool:
        """Whether each attempt has an outcome: spans leave out those that have none."""
        return self.sent == sum(span.requests for span in self.spans)


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One process that worked on a run, and its limits."""

    number: int
    requests: int
    per_seconds: float
    hours: str
    """By `PacingSettings.hours_record`."""
    started_utc_ns: int
    ended_utc_ns: int | None
    """None while it works, or if it died."""
    pace: PaceRecord | None
    """None while it works, if it died, and if it sent nothing."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """All records from which a run's accounts are computed."""

    entry: RunEntry
    totals: RunTotals
    executions: Sequence[ExecutionRecord]
    """In their order; at least one."""
    plan: PlanRecord | None
    """None for a push, and for a mirror that ended before its plan was made."""

    def ended(self, pace: PaceRecord | None, ended_utc_ns: int) -> "RunRecord":
        """Return the record of the same run after its last execution has ended."""
        last = replace(self.executions[-1], pace=pace, ended_utc_ns=ended_utc_ns)
        entry = replace(self.entry, finished_utc_ns=ended_utc_ns)
        return replace(self, entry=entry, executions=[*self.executions[:-1], last])


class AttemptRecord(NamedTuple):
    """An attempt with its batch. All fields of the attempt are None for a batch without one.

    It is a named tuple, since a run may have millions of them and each is made only to be printed.
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
    """Of the attempt; of the batch if there is none."""
    may_have_been_applied: bool
    """Whether an attempt of the batch may have been applied, although it was not accepted."""


@dataclass(frozen=True, slots=True)
class RejectRecord:
    """A rejected uid, or consecutive rows that are blank or invalid for the same reason."""

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
    """How an earlier run's uid was rejected."""

    run: str
    reason: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class UidAttempt:
    """The last attempt to send the batch that held a uid."""

    batch: int
    attempt: int
    outcome: str | None
    """None while it is under way, or if its process died."""
    at_utc_ns: int
    """When it was sent; when it was intended if that is unknown."""
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


class LastRun(NamedTuple):
    """A cohort's last run, the files that it read, and how it was requested to read them."""

    record: RunRecord
    files: Sequence[SourceFile]
    spec: SourceSpec
