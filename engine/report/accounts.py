"""The accounts of one run: counts over all its restarts, and whether they balance.

The API confirms only that it accepted a request, never that it applied it: it returns no counts,
has no job to query, and ignores unknown uids. So the accounts say "accepted".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from engine.errors import ExitStatus
from engine.ledger.damage import corrupt
from engine.ledger.plan_records import OperationCounts, PlanRecord
from engine.ledger.run_records import ExecutionRecord, RunRecord, RunTotals, SendSpan
from engine.model.cohort import Operation
from engine.model.endpoint import Endpoint
from engine.model.quantity import counted
from engine.pacing.budget import Spending
from engine.report.figures import (
    Ceiling,
    CeilingSpending,
    MirrorFigures,
    Requests,
    RowCounts,
    Standing,
)
from engine.report.settings import AccountingSettings

SCHEMA_VERSION = 1
"""Version of the JSON document; new keys keep the number, a key with a new meaning changes it."""


_MIRRORED_ROWS = ("duplicate", "unchanged", "undecided")
"""The outcomes of a mirror's rows that a push's rows do not have."""


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
    """Requests sent, as a share of those that the ceiling allowed from the first to the last."""
    ceiling_spending: CeilingSpending
    ceiling_found: int | None
    """The lower ceiling of the last process after 429s; None if 429s did not lower it."""
    margin_seconds: float
    """By how many seconds the last process had stretched the window at its end."""
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
                names = ("add", "remove", "resend", "known_rejects", "notes")
                mirrored |= {name: figures[name] for name in names}
            else:
                mirrored[key] = value
        return mirrored

    @property
    def imbalance(self) -> str | None:
        """Return which sum of the accounts does not balance; None if all balance."""
        rows, mirror = self.rows, self.mirror
        parts = {"blank": rows.blank, "invalid": rows.invalid}
        if mirror is None:
            parts["planned"] = self.uids.planned
            standings = {"uids": self.uids, "batches": self.batches}
        else:
            parts |= {name: getattr(mirror, name) for name in _MIRRORED_ROWS}
            parts["planned"] = mirror.add.planned
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


def account(record: RunRecord) -> Accounts:
    """Compute the accounts from a run's record; raises `LedgerError` if that is inconsistent."""
    entry, totals, executions = record.entry, record.totals, record.executions
    standings, batches = _standings(totals)
    rows = RowCounts(totals.records, totals.blank, totals.invalid)
    mirror = None
    if entry.is_mirror:
        mirror = _mirrored(record.plan, totals, rows, standings)
        standings = {operation: getattr(mirror, operation) for operation in Operation}
    last = executions[-1]
    spending = _spending(executions, totals)
    return Accounts(
        run=entry.name,
        status=entry.status,
        exit_status=entry.exit_status,
        reason=entry.reason,
        target=target_label(entry.endpoint),
        workspace=entry.workspace,
        partner=entry.partner,
        cohort_id=entry.cohort_id,
        cohort_name=entry.cohort_name,
        action=entry.action,
        ceiling=Ceiling(last.requests, last.per_seconds),
        source_complete=entry.source_complete,
        rows=rows,
        uids=sum(standings.values(), Standing()),
        batches=batches,
        mirror=mirror,
        requests=Requests(
            totals.sent, totals.accepted, totals.throttled, totals.retried, totals.split
        ),
        bytes_sent=totals.bytes,
        payload_fill=round(_share(totals.bytes, totals.room), 6),
        ceiling_use=round(_share(spending.used, spending.allowed), 6),
        ceiling_spending=spending,
        ceiling_found=last.pace.found if last.pace else None,
        margin_seconds=round(last.pace.margin_seconds, 6) if last.pace else 0.0,
        started_at=timestamp(entry.started_utc_ns),
        finished_at=timestamp(entry.finished_utc_ns) if entry.finished_utc_ns else None,
        elapsed_seconds=round(sum(_seconds_at_work(execution) for execution in executions), 3),
    )


def _standings(totals: RunTotals) -> tuple[Mapping[Operation, Standing], Standing]:
    """Return the standing of the uids of each operation, and the standing of the batches."""
    uids: dict[Operation, Counter[str]] = {operation: Counter() for operation in Operation}
    batches: Counter[str] = Counter()
    try:
        for each in totals.standings:
            uids[Operation(each.operation)][each.standing] += each.uids
            batches[each.standing] += each.batches
        for planned in totals.planned:
            uids[Operation(planned.operation)]["planned"] = planned.uids
        # Each split replaces one batch by two parts.
        standings = {operation: Standing(**counts) for operation, counts in uids.items()}
        return standings, Standing(totals.roots + totals.splits, **batches)
    except (TypeError, ValueError) as error:
        raise corrupt("a batch has a state or an operation that is none") from error


def _mirrored(
    plan: PlanRecord | None, totals: RunTotals, rows: RowCounts, cut: Mapping[Operation, Standing]
) -> MirrorFigures:
    """Add to the cut uids of a plan those not cut: pending, or rejected by an earlier run."""
    if plan is None:
        return MirrorFigures(undecided=rows.read - rows.blank - rows.invalid)
    add, remove, resend = (_whole(plan.operations[each], cut[each]) for each in Operation)
    return MirrorFigures(
        *(plan.duplicate, plan.unchanged, add, remove, resend),
        known_rejects=sum(each.known for each in plan.operations.values()) + totals.rejected_again,
        notes=tuple(plan.forecast.get("notes", ())),
    )


def _whole(counts: OperationCounts, cut: Standing) -> Standing:
    """Add the uids of an operation that were not cut; recent rejects count as rejected again."""
    return replace(
        cut,
        planned=counts.planned + counts.known,
        rejected=cut.rejected + counts.known,
        pending=cut.pending + counts.planned - cut.planned,
    )


def _spending(executions: Sequence[ExecutionRecord], totals: RunTotals) -> CeilingSpending:
    total = CeilingSpending()
    by_number = {execution.number: execution for execution in executions}
    for span in totals.spans:
        execution = by_number.get(span.execution)
        if execution is None:
            raise corrupt("requests belong to no process")
        total += (
            _recorded(execution.pace.spending) if execution.pace else _unrecorded(execution, span)
        )
    return total


def _recorded(spending: Spending) -> CeilingSpending:
    try:
        return CeilingSpending(spending.allowed, spending.used, **spending.lost)
    except TypeError as error:
        raise corrupt("a process's record of its pace is broken") from error


def _unrecorded(execution: ExecutionRecord, span: SendSpan) -> CeilingSpending:
    # n requests at the ceiling's pace have n - 1 gaps between them.
    allowed = 1 + span.nanoseconds / 1e9 * execution.requests / execution.per_seconds
    return CeilingSpending(allowed, span.requests, unrecorded=allowed - span.requests)


def _seconds_at_work(execution: ExecutionRecord) -> float:
    ended = execution.ended_utc_ns or execution.started_utc_ns
    return max(0.0, (ended - execution.started_utc_ns) / 1e9)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@cache  # A list of runs has few targets.
def target_label(endpoint_url: str) -> str:
    """Return the display label of an endpoint; raises `LedgerError` if it is malformed."""
    try:
        return Endpoint.parse(endpoint_url).label
    except ValueError as error:
        raise corrupt("it names an endpoint that is none") from error


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
