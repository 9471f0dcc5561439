"""The accounts of one run: counts over all its restarts, and whether they balance.

The API confirms only that it accepted a request, never that it applied it: it returns no counts,
has no job to query, and ignores unknown uids. So the accounts say "accepted".
"""

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

from engine.errors import ExitStatus
from engine.model.cohort import Operation
from engine.model.quantity import counted
from engine.pacing.settings import PacingSettings
from engine.report.settings import AccountingSettings

SCHEMA_VERSION = 1
"""Version of the JSON document; new keys keep the number, a key with a new meaning changes it."""

_MIRRORED_ROWS = ("duplicate", "unchanged", "undecided")
"""The outcomes of a mirror's rows that a push's rows do not have."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The counts of the rows that were read of the export."""

    read: int = 0
    """The reader's own count."""
    blank: int = 0
    invalid: int = 0
    excluded: int = 0
    """Rows whose uid is in an exclusion list."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How many uids or batches have each standing; each number is counted independently."""

    planned: int = 0
    accepted: int = 0
    rejected: int = 0
    unconfirmed: int = 0
    pending: int = 0

    def __add__(self, other: "Standing") -> "Standing":
        return Standing(*map(operator.add, _STANDING(self), _STANDING(other)))

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing is counted twice."""
        parts = self.accepted + self.rejected + self.unconfirmed + self.pending
        return self.planned == parts


# `astuple` would copy each value, a third of the CPU of a list of runs.
_STANDING = operator.attrgetter(*(each.name for each in fields(Standing)))


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that were sent, and the API's responses."""

    sent: int = 0
    accepted: int = 0
    throttled: int = 0
    """Requests answered by a 429."""
    retried: int = 0
    """Requests for a batch that had been sent before."""
    split: int = 0
    """Requests whose answer caused the batch to be halved."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The API's limit: the number of requests in any window, and its length in seconds."""

    requests: int
    per_seconds: float
    hours: tuple[Mapping[str, str | int], ...] = ()
    """Hours of the day with another number of requests: `from`, `until` and `requests`."""

    @classmethod
    def of(cls, settings: PacingSettings) -> Self:
        """Return the configured ceiling."""
        hours = tuple(each.to_dict() for each in settings.hours)
        return cls(settings.requests, settings.per_seconds, hours)

    @property
    def most(self) -> int:
        """The largest number of requests in any window, at any hour."""
        return max(self.requests, *(int(each["requests"]) for each in self.hours), 0)

    @property
    def hours_clause(self) -> str:
        """The hours as the end of a sentence: `, 100 from 08:00 to 20:00`; empty without any."""
        return "".join(
            f", {each['requests']:,} from {each['from']} to {each['until']}" for each in self.hours
        )


@dataclass(frozen=True, slots=True)
class CeilingSpending:
    """How a run used the ceiling, in requests: `allowed` is the sum of the other fields.

    Counted from each process's first request to its last, and summed over all restarts. A request
    that no run sent is lost in each of the runs that were being delivered.
    """

    allowed: float = 0.0
    used: int = 0
    """Requests of this run."""
    other_runs: float = 0.0
    """Requests of other runs at the same time, which share the ceiling."""
    other_processes: float = 0.0
    """Requests of processes on other hosts, which share the ceiling."""
    held: float = 0.0
    """A 429 had closed the gate."""
    input: float = 0.0
    """The export was slower than the ceiling."""
    in_flight: float = 0.0
    """All batches in flight waited for slow answers or for their backoff."""
    margin: float = 0.0
    """The window was stretched: the API may have counted a request until its answer."""
    late: float = 0.0
    """Late wake-ups and connecting; below 0 if more was caught up than was late."""
    unrecorded: float = 0.0
    """Not sent, or sent by other runs, while a process worked that died before it recorded it."""

    def __add__(self, other: "CeilingSpending") -> "CeilingSpending":
        sums = map(operator.add, _SPENDING(self), _SPENDING(other))
        return CeilingSpending(*(round(each, 3) for each in sums))

    @property
    def available(self) -> float:
        """Requests that the ceiling allowed and no other run or process sent."""
        return self.allowed - self.other_runs - self.other_processes


_SPENDING = operator.attrgetter(*(each.name for each in fields(CeilingSpending)))


@dataclass(frozen=True, slots=True)
class MirrorFigures:
    """The numbers that are only in the accounts of a mirror."""

    duplicate: int = 0
    """Rows whose uid was in an earlier row; of a list of changes, in a later one."""
    unchanged: int = 0
    """Desired uids that were already members; of a list of changes, uids that were as it says."""
    add: Standing = Standing()
    remove: Standing = Standing()
    resend: Standing = Standing()
    """The unchanged uids that are added again."""
    known_rejects: int = 0
    """Uids that were rejected, or not sent, and had been rejected in an earlier run.

    They do not affect the exit status.
    """
    undecided: int = 0
    """Rows with a uid that were read but not compared, because the run was stopped before."""
    lists_changes: bool = False
    """Whether the export is a list of changes: then its rows also say which uids are removed."""
    notes: tuple[str, ...] = ()
    """Remarks on the plan for the user."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """All reported values of a run; the fields are the keys of the JSON document."""

    run: str | None
    """None for a dry run, which is not in the ledger."""
    status: str
    """finished, incomplete, refused, source_failed, failed, unbalanced, abandoned, running or
    dry_run."""
    exit_status: int | None
    reason: str | None
    """Why the exit status is not 0; None if it is 0, or if there is none yet."""
    target: str
    workspace: str
    partner: str
    cohort_id: str
    cohort_name: str
    action: str
    ceiling: Ceiling
    source_complete: bool
    rows: RowCounts
    uids: Standing
    """The sum of all operations, if there are several."""
    batches: Standing
    """Unsplit batches only: a batch that was split is replaced by its parts."""
    requests: Requests
    bytes_sent: int
    payload_fill: float
    """Bytes of the sent payloads, as a share of the bytes that the limit allows them."""
    ceiling_use: float
    """Requests sent, as a share of those that the ceiling allowed and no other run sent."""
    ceiling_spending: CeilingSpending
    ceiling_found: int | None
    """The lower ceiling of the last process after 429s; None if 429s did not lower it."""
    margin_seconds: float
    """By how many seconds the last process stretched the window for its next send at its end."""
    started_at: str
    finished_at: str | None
    elapsed_seconds: float
    """Working time in seconds, over all restarts."""
    mirror: MirrorFigures | None = None
    """None for a push."""
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document as plain values; a mirror's has two keys in place of `uids`."""
        document = asdict(self)
        del document["mirror"]
        if self.mirror is None:
            return document
        figures = asdict(self.mirror)
        document["rows"] |= {name: figures[name] for name in _MIRRORED_ROWS}
        mirrored: dict[str, Any] = {}
        for key, value in document.items():
            if key == "uids":
                names = ("lists_changes", "add", "remove", "resend", "known_rejects", "notes")
                mirrored |= {name: figures[name] for name in names}
            else:
                mirrored[key] = value
        return mirrored

    @property
    def imbalance(self) -> str | None:
        """Return which sum of the accounts does not balance; None if all balance."""
        rows, mirror = self.rows, self.mirror
        parts = {"blank": rows.blank, "invalid": rows.invalid, "excluded": rows.excluded}
        if mirror is None:
            parts["planned"] = self.uids.planned
            standings = {"uids": self.uids, "batches": self.batches}
        else:
            parts |= {name: getattr(mirror, name) for name in _MIRRORED_ROWS}
            parts["planned"] = mirror.add.planned
            if mirror.lists_changes:
                parts["planned"] += mirror.remove.planned
            standings = {operation: getattr(mirror, operation) for operation in Operation}
            standings["batches"] = self.batches
        if rows.read != sum(parts.values()):
            counts = [f"{count} {name}" for name, count in parts.items()]
            listed = f"{', '.join(counts[:-1])} and {counts[-1]}"
            return f"{counted(rows.read, 'row')} read, but {listed}"
        for name, standing in standings.items():
            if not standing.balances:
                return f"the {name} do not add up: {standing}"
        return None


def future_timestamp(utc_ns: int) -> str:
    """Return a moment as `timestamp` does, rounded up: nothing is promised too early."""
    return timestamp(-(-utc_ns // _MILLISECOND_NS) * _MILLISECOND_NS)


_MILLISECOND_NS = 1_000_000


def share_of_ceiling(requests: float, allowed: float) -> float:
    """Return requests as a share of those that the ceiling allowed from the first to the last.

    It is at most 1: a few requests may be sent faster, after a moment in which none was sent. 0 if
    nothing was allowed.
    """
    return min(1.0, requests / allowed) if allowed else 0.0


def timestamp(utc_ns: int) -> str:
    """Return a moment as ISO 8601, in UTC."""
    return datetime.fromtimestamp(utc_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def exit_status_of(
    uids: Standing, rows: RowCounts, settings: AccountingSettings, known_rejects: int = 0
) -> ExitStatus:
    """Return the exit status of a run that was not stopped; known rejects are not failures."""
    if uids.unconfirmed or uids.pending:
        return ExitStatus.INCOMPLETE
    if not settings.tolerates(uids.rejected - known_rejects + rows.invalid, rows.read):
        return ExitStatus.PARTIAL
    return ExitStatus.ACCEPTED


def partial_reason(uids: Standing, rows: RowCounts, run: str | None, known_rejects: int = 0) -> str:
    """Return why a run ends with exit status 1, and the command that lists the uids and rows."""
    parts = []
    if rejected := uids.rejected - known_rejects:
        parts.append(f"{counted(rejected, 'uid')} rejected")
    if rows.invalid:
        parts.append(f"{counted(rows.invalid, 'row')} invalid")
    shown = f"; `cohortsync rejects {run}` lists them" if run else ""
    return f"{', '.join(parts)}: more than `accounting.tolerate_invalid`{shown}"
