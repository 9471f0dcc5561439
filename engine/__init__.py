"""Bulk audience sync for the MoEngage Cohort Sync API: every uid sent once, paced, accounted for.

    export ──► source ──► (planning) ──► payload ──► pacing ──► delivery ──► ledger ──► report
               uids       changes        requests    turns      outcomes     records    accounts

Values go from left to right; only decisions go back ("again in 4 s", "split", "stop"). A push sends
the uids of an export; a mirror sends the changes of a plan. Both use the same delivery.

A folder imports only from those below it; `lint-imports` checks that.

    cli/        the command line: arguments, signals, what is shown
    api         what a program calls, and the command line too
    sync/       all configured cohorts: many runs, in the sessions of their workspaces
    runs/       one job from request to result: push, mirror, plan, dry run, transfer, closing
    preflight/  checks before a run, without sending a uid
    config/     config.toml, environment and flags as one frozen Config, or every problem at once
    planning/   an export against a snapshot: staging, comparison, guards, forecast
    page/       the morning page: a report on a period as HTML
    report/     accounts, results and history of runs, from the ledger's rows
    snapshot/   what the API has acknowledged, generation by generation
    delivery/   answer → outcome → decision; the pipeline, HTTP, retry, split, stop
    ledger/     runs, batches and attempts; intent before action; in sqlite/, all SQL
    payload/    uids as request bodies below the byte limit
    pacing/     the ceiling: the window limit, the gate after a 429, the waiting
    source/     exports as Arrow arrays of uids, with the place of each uid
    storage/    atomic files, temporary folders, DuckDB, Parquet; in `paths`, all paths with uids
    model/      values without I/O: cohort, endpoint, workspace, status
    cancellation, clock, errors

    emulator/   the API itself, on loopback; shares no code with the rest and counts for itself

Laws, kept by tests: rows read = blank + invalid + planned; planned = accepted + rejected +
unconfirmed + pending; an attempt is durable before its first byte is sent; never more requests in
any window than the ceiling allows; memory is bounded by settings, not by the size of the export.

The names below are what a program uses; each is imported when it is first asked for, so that
`import engine` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.config.new_config import NewConfig
    from engine.config.schema import config_schema
    from engine.delivery import events
    from engine.delivery.stop import StopSwitch
    from engine.errors import CohortSyncError, ExitStatus
    from engine.model.cohort import Action, Cohort
    from engine.preflight.check import CheckResult, Finding
    from engine.report.accounts import Accounts
    from engine.report.history import Reject, RunDetails
    from engine.report.period import PeriodReport
    from engine.report.plans import PlanEntry
    from engine.report.run_results import (
        FailedRun,
        NothingToResume,
        Opening,
        ResumedRuns,
        RunResult,
    )
    from engine.report.snapshots import (
        SnapshotComparison,
        SnapshotEntry,
        SnapshotOfList,
        VerifiedSnapshot,
    )
    from engine.report.state import Abandoned, BackedUp, Pruned, Restored, StateUsage
    from engine.report.support import SupportReport
    from engine.report.sync_result import CohortResult, CohortStatus, SyncResult
    from engine.report.why import UidReport
    from engine.runs.arguments import (
        ExportArguments,
        Note,
        Observers,
        PlanArguments,
        PlanObservers,
        Reading,
    )
    from engine.runs.snapshots import Snapshots
    from engine.sync.request import Phase, SyncObservers, SyncOpening

__version__ = "0.1.0"

__all__ = [
    "Abandoned",
    "Accounts",
    "Action",
    "BackedUp",
    "CheckResult",
    "Cohort",
    "CohortResult",
    "CohortStatus",
    "CohortSyncError",
    "Engine",
    "ExitStatus",
    "ExportArguments",
    "FailedRun",
    "Finding",
    "NewConfig",
    "Note",
    "NothingToResume",
    "Observers",
    "Opening",
    "PeriodReport",
    "Phase",
    "PlanArguments",
    "PlanEntry",
    "PlanObservers",
    "Pruned",
    "Reading",
    "Reject",
    "Restored",
    "ResumedRuns",
    "RunDetails",
    "RunResult",
    "SnapshotComparison",
    "SnapshotEntry",
    "SnapshotOfList",
    "Snapshots",
    "StateUsage",
    "StopSwitch",
    "SupportReport",
    "SyncObservers",
    "SyncOpening",
    "SyncResult",
    "UidReport",
    "VerifiedSnapshot",
    "config_schema",
    "events",
]

_MODULES = {
    "engine.api": ("Engine",),
    "engine.config.new_config": ("NewConfig",),
    "engine.config.schema": ("config_schema",),
    "engine.delivery.stop": ("StopSwitch",),
    "engine.errors": ("CohortSyncError", "ExitStatus"),
    "engine.model.cohort": ("Action", "Cohort"),
    "engine.preflight.check": ("CheckResult", "Finding"),
    "engine.report.accounts": ("Accounts",),
    "engine.report.history": ("Reject", "RunDetails"),
    "engine.report.period": ("PeriodReport",),
    "engine.report.plans": ("PlanEntry",),
    "engine.report.run_results": (
        *("FailedRun", "NothingToResume", "Opening", "ResumedRuns", "RunResult"),
    ),
    "engine.report.snapshots": (
        *("SnapshotComparison", "SnapshotEntry", "SnapshotOfList", "VerifiedSnapshot"),
    ),
    "engine.report.state": ("Abandoned", "BackedUp", "Pruned", "Restored", "StateUsage"),
    "engine.report.support": ("SupportReport",),
    "engine.report.sync_result": ("CohortResult", "CohortStatus", "SyncResult"),
    "engine.report.why": ("UidReport",),
    "engine.runs.arguments": (
        *("ExportArguments", "Note", "Observers", "PlanArguments", "PlanObservers", "Reading"),
    ),
    "engine.runs.snapshots": ("Snapshots",),
    "engine.sync.request": ("Phase", "SyncObservers", "SyncOpening"),
}
"""Where each name is defined."""


def __getattr__(name: str) -> object:
    if name == "events":
        return import_module("engine.delivery.events")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
