"""What is written into a ledger, and what is read back to resume a run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from engine.clock import Stamp
from engine.errors import UsageError
from engine.model.cohort import Action, Cohort, CohortKey, Operation
from engine.model.status import BatchState
from engine.source.source_file import SourceFile

if TYPE_CHECKING:
    from engine.payload.batch import SkippedRows
    from engine.source.protocol import Spec


@dataclass(frozen=True, slots=True)
class RunKey:
    """What identifies a run: its target, its action, its files and how they are read."""

    endpoint: str
    workspace: str
    partner: str
    cohort: Cohort
    action: Action | None
    """None for a mirror, which plans adds and removes."""
    source_identity: Mapping[str, Any]

    @property
    def cohort_key(self) -> CohortKey:
        """The cohort that the run changes."""
        return CohortKey(self.partner, self.cohort.id)

    @property
    def identity(self) -> bytes:
        """The digest of a run; a run resumes another one if their digests are equal."""
        fields = [
            self.endpoint,
            self.workspace,
            self.partner,
            self.cohort.id,
            action_name(self.action),
            dict(self.source_identity),
        ]
        return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).digest()


MIRROR = "mirror"
"""The action of a run that plans adds and removes."""


def action_name(action: Action | None) -> str:
    """Return the ledger's name of a run's action; None is a mirror."""
    return MIRROR if action is None else action.value


@dataclass(frozen=True, slots=True)
class RunReference:
    """A run: its number in the ledger, and its name."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """How a run was requested, so that it can be resumed by its name alone."""

    spec: "Spec"
    files: Sequence[SourceFile] = ()


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """The limits that one process works under."""

    requests: int
    per_seconds: float
    payload_bytes: int
    hours: str = ""
    """By `PacingSettings.hours_record`."""


@dataclass(frozen=True, slots=True)
class BatchPart:
    """One half of a batch that is split."""

    number: int
    first_uid: int
    uid_count: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Registration:
    """A batch as cut from the export, entered before its first attempt."""

    number: int
    operation: Operation
    first_uid: int
    uid_count: int
    blank: int
    invalid: int
    records_through: int
    is_last: bool
    payload_bytes: int
    digest: bytes
    skipped: "Sequence[SkippedRows]"
    file_uids: Mapping[str, int] = field(default_factory=dict)
    """Uids from each file of the export, by the file's name."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended."""

    outcome: str
    """The outcome's name, such as `accepted` or `too_large`."""
    may_have_been_applied: bool
    sent: Stamp | None
    """When the request's head was sent; None if it never was."""
    ended_utc_ns: int
    http_status: int | None = None
    request_id: str | None = None
    reason: str | None = None
    retry_after: float | None = None
    """Seconds to wait, as a 429 requested."""


def ages(sent: Stamp, ended_utc_ns: int | None, now: Stamp) -> tuple[float, float]:
    """Return the seconds since a request was sent, and since it was answered or has failed.

    An end before the send shows that the wall clock was set in between; then the end counts as now.
    A request without an end was under way when its process died. It counts as sent when the next
    process found it, and as ended then.
    """
    sent_ago = sent.age_at(now)
    under_way = 0.0 if ended_utc_ns is None else (ended_utc_ns - sent.utc_ns) / 1e9
    return sent_ago, max(0.0, sent_ago - under_way) if under_way >= 0 else 0.0


@dataclass(frozen=True, slots=True)
class RejectedUid:
    """A rejected uid, and its place in the export."""

    file: str
    record: int
    uid: str
    reason: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """A batch is settled: accepted, rejected, or left open for a later execution."""

    state: BatchState
    reason: str | None = None
    rejected: RejectedUid | None = None


@dataclass(frozen=True, slots=True)
class Division:
    """A batch is replaced by its halves."""

    parts: tuple[BatchPart, BatchPart]
    isolated: bool
    """Whether the halves are part of a search for rejected uids."""
    reason: str


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that an earlier execution left neither accepted nor rejected."""

    number: int
    first_uid: int
    uid_count: int
    attempts: int
    isolated: bool


@dataclass(frozen=True, slots=True)
class RunState:
    """A run to work on: a new one, or one that is resumed."""

    run: RunReference
    execution: int
    is_resumed: bool
    next_batch: int
    """The number of the next batch to be registered."""
    largest_accepted: int
    """Bytes of the largest payload accepted so far; 0 if none has been."""
    isolation_requests: int
    """Requests spent so far on the search for rejected uids."""


@dataclass(frozen=True, slots=True)
class RowsRead:
    """How much of an export was read, by the reader's count, where no batch records it."""

    records: int
    blank: int
    invalid: int
    is_complete: bool
    """Whether that is the whole export."""


NO_BATCH = 0
"""The batch number of skipped rows that belong to no batch."""


def overtaken(run: str, later: str, cohort_id: str) -> UsageError:
    """Return the error for a run that cannot resume, since a later run has changed its cohort."""
    return UsageError(
        f"run {run} cannot go on: run {later} has touched cohort {cohort_id} since",
        hint="pass --on-changed restart to send this export from its start",
    )
