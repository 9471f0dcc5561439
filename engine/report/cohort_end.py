"""How a cohort ended: by its run, or in a sync that began none."""

from engine.errors import ExitStatus
from engine.ledger.run_records import RunEntry
from engine.ledger.sync_records import SyncRecord
from engine.model.status import RunStatus
from engine.report.accounts import Accounts
from engine.report.history import RunReads, plan_document
from engine.report.next_step import next_step
from engine.report.period import CohortPeriod, Level


def end_of_run(  # noqa: PLR0913 - each is read in another way
    reads: RunReads,
    accounts: Accounts,
    entry: RunEntry,
    *,
    key: str | None,
    record: SyncRecord | None,
    members: int | None,
) -> CohortPeriod:
    """Return how a run ended. `key` is that of its cohort, if a sync can repeat it.

    `record` is that of the sync that ran it last, if one did. The record has the verdict if the run
    has not been continued since: what follows a complete cohort may have failed.
    """
    name = entry.name
    plan = reads.plan(name)
    guards = () if plan is None else tuple(plan_document(plan)["guards"])
    has_died = entry.status == RunStatus.RUNNING != accounts.status
    status, reason = str(accounts.status), accounts.reason
    exit_status = ExitStatus.INCOMPLETE if has_died else accounts.exit_status
    finished = entry.finished_utc_ns
    if record is not None and record.status is not None and not is_continued(entry, record):
        status, exit_status, reason = record.status, record.exit_status, record.reason
        finished = record.finished_utc_ns
    step = next_step(exit_status, name, synced_as=key, mode=accounts.action, guards=guards)
    return CohortPeriod(
        cohort=key or accounts.cohort_id,
        cohort_id=accounts.cohort_id,
        cohort_name=accounts.cohort_name,
        target=accounts.target,
        workspace=accounts.workspace,
        partner=accounts.partner,
        sync=record.sync if record else None,
        mode=accounts.action,
        status=status,
        exit_status=exit_status,
        reason=reason,
        level=level_of(exit_status),
        next_step=None if status == RunStatus.RUNNING else step,
        started_utc_ns=entry.started_utc_ns,
        finished_utc_ns=finished,
        members=members,
        run=name,
        runs=(accounts,),
        files=reads.files(name),
        guards=guards,
    )


def is_continued(entry: RunEntry, record: SyncRecord) -> bool:
    """Return whether a run was continued since a sync has recorded its end."""
    if entry.finished_utc_ns is None or record.finished_utc_ns is None:
        return True
    return entry.finished_utc_ns > record.finished_utc_ns


def end_in_sync(
    record: SyncRecord,
    name: str | None,
    target: str,
    workspace: str,
    *,
    completed: str | None = None,
) -> CohortPeriod:
    """Return how a cohort ended in a sync, by its record alone; `name` is the cohort's.

    `completed` is the run that had completed its export before, if there was one.
    """
    is_unknown = record.status is None
    run = record.run or completed
    return CohortPeriod(
        cohort=record.cohort,
        cohort_id=record.cohort_id,
        cohort_name=name,
        target=target,
        workspace=workspace,
        partner=record.partner,
        sync=record.sync,
        mode=None,
        status=record.status or "not_ended",
        exit_status=record.exit_status,
        reason="the sync has not ended, or its process died" if is_unknown else record.reason,
        level=level_of(record.exit_status),
        next_step=next_step(record.exit_status, run, synced_as=record.cohort, mode=None, guards=()),
        started_utc_ns=record.started_utc_ns,
        finished_utc_ns=record.finished_utc_ns,
        members=record.members,
        run=record.run,
    )


def level_of(exit_status: int | None) -> Level:
    """Return how much attention an exit status needs; None if nothing has ended."""
    match exit_status:
        case ExitStatus.ACCEPTED:
            return Level.OK
        case None | ExitStatus.PARTIAL | ExitStatus.INCOMPLETE:
            return Level.ATTENTION
        case _:
            return Level.FAILED
