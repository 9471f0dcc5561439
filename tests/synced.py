"""Results of cohorts, as a sync would return them, for the tests of notices."""

from datetime import UTC, datetime
from typing import Any

from engine.errors import ExitStatus
from engine.model.status import CohortStatus, RunStatus
from engine.notices.problems import NoticedCohort
from engine.report.accounts import (
    Accounts,
    Ceiling,
    CeilingSpending,
    Requests,
    RowCounts,
    Standing,
)
from engine.report.forecast import CohortForecast
from engine.report.run_results import RunResult
from engine.report.sync_result import CohortResult, SyncResult

SECOND = 1_000_000_000
COHORT = NoticedCohort("vip", "VIP customers", "default", "P", "vip-id")
_STATUSES = {
    ExitStatus.ACCEPTED: RunStatus.FINISHED,
    ExitStatus.PARTIAL: RunStatus.FINISHED,
    ExitStatus.USAGE: CohortStatus.MISSING,
    ExitStatus.REFUSED: RunStatus.REFUSED,
    ExitStatus.GUARDED: RunStatus.GUARDED,
    ExitStatus.UNBALANCED: RunStatus.UNBALANCED,
    ExitStatus.INCOMPLETE: RunStatus.INCOMPLETE,
}


def ended(
    status: ExitStatus | CohortStatus | RunStatus,
    *,
    key: str = "vip",
    **values: Any,  # noqa: ANN401 - fields of the result
) -> CohortResult:
    """Return the result of a cohort that began no run."""
    exit_status = status if isinstance(status, ExitStatus) else ExitStatus.ACCEPTED
    shown = _STATUSES[status] if isinstance(status, ExitStatus) else status
    return CohortResult(
        key, "default", f"{key}-id", "VIP customers", "mirror", shown, exit_status, **values
    )


def pushed(
    rows: int,
    *,
    rejected: int = 0,
    status: ExitStatus = ExitStatus.ACCEPTED,
    run: str = "run-1",
    finished_utc_ns: int = 1_700_000_000 * SECOND,
    **values: Any,  # noqa: ANN401 - fields of the result
) -> CohortResult:
    """Return the result of a cohort whose run pushed some uids."""
    accounts = Accounts(
        run=run,
        status=RunStatus.FINISHED.value,
        exit_status=int(status),
        reason=None,
        target="EMULATOR 127.0.0.1:1",
        workspace="W",
        partner="P",
        cohort_id="vip-id",
        cohort_name="VIP customers",
        action="add",
        ceiling=Ceiling(300, 60.0),
        source_complete=True,
        rows=RowCounts(rows),
        uids=Standing(rows, rows - rejected, rejected),
        batches=Standing(1, 1),
        requests=Requests(1, 1),
        bytes_sent=100,
        payload_fill=1.0,
        ceiling_use=0.99,
        ceiling_spending=CeilingSpending(),
        ceiling_found=None,
        margin_seconds=0.0,
        started_at="2023-11-14T22:00:00.000+00:00",
        finished_at=datetime.fromtimestamp(finished_utc_ns / SECOND, UTC).isoformat(),
        elapsed_seconds=1.0,
    )
    return ended(status, run=RunResult(accounts, status), **values)


def synced(*cohorts: CohortResult, at_utc_ns: int = 1_700_000_000 * SECOND) -> SyncResult:
    """Return the result of a sync that ended at a moment."""
    return SyncResult(f"sync-{at_utc_ns}", at_utc_ns - SECOND, at_utc_ns, cohorts)


def forecast(deadline_utc_ns: int) -> CohortForecast:
    """Return the forecast of a cohort with a deadline."""
    return CohortForecast(1, is_exact=True, done_utc_ns=0, deadline_utc_ns=deadline_utc_ns)
