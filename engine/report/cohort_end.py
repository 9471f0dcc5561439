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
    synced_as: str | None,
    sync: str | None,
    members: int | None,
) -> CohortPeriod:
    """Return how a run ended. `synced_as` is the key of its cohort, if a sync can repeat it."""
    name = entry.name
    plan = reads.plan(name)
    guards = () if plan is None else tuple(plan_document(plan)["guards"])
    has_died = entry.status == RunStatus.RUNNING != accounts.status
    exit_status = ExitStatus.INCOMPLETE if has_died else accounts.exit_status
    step = next_step(exit_status, name, synced_as=synced_as, mode=accounts.action, guards=guards)
    return CohortPeriod(
        cohort=synced_as or accounts.cohort_id,
        cohort_id=accounts.cohort_id,
        cohort_name=accounts.cohort_name,
        target=accounts.target,
        workspace=accounts.workspace,
        partner=accounts.partner,
        sync=sync,
        mode=accounts.action,
        status=accounts.status,
        exit_status=exit_status,
        reason=accounts.reason,
        level=level_of(exit_status),
        next_step=None if accounts.status == RunStatus.RUNNING else step,
        started_utc_ns=entry.started_utc_ns,
        finished_utc_ns=entry.finished_utc_ns,
        members=members,
        accounts=accounts,
        files=reads.files(name),
        guards=guards,
    )


def end_without_run(
    record: SyncRecord, name: str | None, target: str, workspace: str
) -> CohortPeriod:
    """Return how a cohort ended in a sync that began no run of it; `name` is the cohort's."""
    is_unknown = record.status is None
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
        next_step=next_step(
            record.exit_status, None, synced_as=record.cohort, mode=None, guards=()
        ),
        started_utc_ns=record.started_utc_ns,
        finished_utc_ns=record.finished_utc_ns,
        members=record.members,
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
