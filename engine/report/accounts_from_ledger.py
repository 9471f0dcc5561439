"""Computes the accounts of a run from the ledger's record of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from engine.ledger.damage import corrupt
from engine.ledger.plan_records import OperationCounts, PlanRecord
from engine.ledger.run_records import ExecutionRecord, RunRecord, RunTotals, SendSpan
from engine.model.cohort import Operation
from engine.model.endpoint import Endpoint
from engine.pacing.budget import Spending
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import PacingSettings
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    MirrorFigures,
    Requests,
    RowCounts,
    Standing,
    share_of_ceiling,
    timestamp,
)


def account(record: RunRecord) -> Accounts:
    """Compute the accounts from a run's record; raises `LedgerError` if that is inconsistent."""
    entry, totals, executions = record.entry, record.totals, record.executions
    standings, batches = _standings(totals)
    excluded = _excluded(record.plan) if entry.is_mirror else totals.excluded
    rows = RowCounts(totals.records, totals.blank, totals.invalid, excluded)
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
        ceiling=Ceiling.of(_settings(last)),
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
        ceiling_use=round(share_of_ceiling(spending.used, spending.available), 6),
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
        lists_changes=plan.lists_changes,
    )


def _excluded(plan: PlanRecord | None) -> int:
    """Return the number of rows that the comparison excluded; earlier versions excluded none."""
    return 0 if plan is None else int(plan.forecast.get("excluded", 0))


def _whole(counts: OperationCounts, cut: Standing) -> Standing:
    """Add the uids of an operation that were not cut; recent rejects count as rejected again."""
    return replace(
        cut,
        planned=counts.planned + counts.known,
        rejected=cut.rejected + counts.known,
        pending=cut.pending + counts.planned - cut.planned,
    )


def _spending(executions: Sequence[ExecutionRecord], totals: RunTotals) -> CeilingSpending:
    by_number = {execution.number: execution for execution in executions}
    parts = []
    for span in totals.spans:
        execution = by_number.get(span.execution)
        if execution is None:
            raise corrupt("requests belong to no process")
        parts.append(
            _recorded(execution.pace.spending) if execution.pace else _unrecorded(execution, span)
        )
    return sum(parts, CeilingSpending())


def _recorded(spending: Spending) -> CeilingSpending:
    try:
        return CeilingSpending(spending.allowed, spending.used, **spending.lost)
    except TypeError as error:
        raise corrupt("a process's record of its pace is broken") from error


def _unrecorded(execution: ExecutionRecord, span: SendSpan) -> CeilingSpending:
    # n requests at the ceiling's pace have n - 1 gaps between them.
    settings, start = _settings(execution), execution.started_utc_ns
    allowed = 1 + HourlyCeiling(settings).allowed_between(start, start + span.nanoseconds)
    if settings.hours:  # The first request was sent later, maybe in other hours.
        allowed = max(allowed, span.requests)
    return CeilingSpending(allowed, span.requests, unrecorded=allowed - span.requests)


def _settings(execution: ExecutionRecord) -> PacingSettings:
    try:
        return PacingSettings.from_record(
            execution.requests, execution.per_seconds, execution.hours
        )
    except ValueError as error:
        raise corrupt("a process's record of its ceiling is broken") from error


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
