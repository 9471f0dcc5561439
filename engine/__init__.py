"""Bulk audience sync for the MoEngage Cohort Sync API: every uid sent once, paced, accounted for.

    export ──► source ──► (planning) ──► payload ──► pacing ──► delivery ──► ledger ──► report
               uids       changes        requests    turns      outcomes     records    accounts

Values go from left to right; only decisions go back ("again in 4 s", "split", "stop"). A push sends
the uids of an export; a mirror sends the changes of a plan. Both use the same delivery.

A folder imports only from those below it; `lint-imports` checks that.

    cli/        the command line: arguments, signals, what is shown
    api         what a program calls, and the command line too
    sync/       all configured cohorts: many runs, in the sessions of their workspaces
    preflight/  checks before a run, without sending a uid
    runs/       one job from request to result: push, mirror, plan, dry run, transfer, closing
    config/     config.toml, environment and flags as one frozen Config, or every problem at once
    planning/   an export against a snapshot: staging, comparison, guards, forecast
    notices/    what a sync tells others: metrics, notifications, pings, markers, commands
    page/       the morning page: a report on a period as HTML
    report/     accounts, results and history of runs, from the ledger's rows
    snapshot/   what the API has acknowledged, generation by generation
    delivery/   answer → outcome → decision; the pipeline, HTTP, retry, split, stop
    coordination/  what hosts share through Redis: a ceiling, and leases of cohorts
    ledger/     runs, batches and attempts; intent before action; in sqlite/, all SQL
    payload/    uids as request bodies below the byte limit
    pacing/     the ceiling: the window limit, the gate after a 429, the waiting
    source/     exports as Arrow arrays of uids, with the place of each uid
    storage/    files, temporary folders, Parquet, partitions; in `paths`, all paths with uids
    model/      values without I/O: cohort, endpoint, workspace, status
    cancellation  work that a cancellation of its caller does not leave unfinished
    clock, errors

    emulator/   the API itself, on loopback; shares no code with the rest and counts for itself

Beside `engine/`: tests/core (no loop, no files) and tests/shell (real SQLite, HTTP and files) have
the same folders, and tests/system has whole runs; benchmarks/ measures, and has the simulator.

Laws, kept by tests: rows read = blank + invalid + planned; planned = accepted + rejected +
unconfirmed + pending; an attempt is durable before its first byte is sent; never more requests in
any window than the ceiling allows; memory is bounded by settings, not by the size of the export.

The names below are what a program uses; each is imported when it is first asked for, so that
`import engine` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine import errors
    from engine.api import Engine
    from engine.config.new_config import NewConfig
    from engine.config.schema import config_schema
    from engine.delivery import events
    from engine.delivery.stop import StopSwitch
    from engine.errors import CohortSyncError, ExitStatus
    from engine.model.cohort import Action, Cohort
    from engine.model.status import CohortStatus
    from engine.preflight.finding import CheckResult, Finding
    from engine.preflight.source_preview import SourcePreview
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
    from engine.report.status import CohortHealth, RunningRun, Status
    from engine.report.support import SupportReport
    from engine.report.sync_result import CohortResult, SyncResult
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
    "CohortHealth",
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
    "RunningRun",
    "SnapshotComparison",
    "SnapshotEntry",
    "SnapshotOfList",
    "Snapshots",
    "SourcePreview",
    "StateUsage",
    "Status",
    "StopSwitch",
    "SupportReport",
    "SyncObservers",
    "SyncOpening",
    "SyncResult",
    "UidReport",
    "VerifiedSnapshot",
    "config_schema",
    "errors",
    "events",
]

_MODULES = {
    "engine.api": ("Engine",),
    "engine.config.new_config": ("NewConfig",),
    "engine.config.schema": ("config_schema",),
    "engine.delivery.stop": ("StopSwitch",),
    "engine.errors": ("CohortSyncError", "ExitStatus"),
    "engine.model.cohort": ("Action", "Cohort"),
    "engine.model.status": ("CohortStatus",),
    "engine.preflight.finding": ("CheckResult", "Finding"),
    "engine.preflight.source_preview": ("SourcePreview",),
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
    "engine.report.status": ("CohortHealth", "RunningRun", "Status"),
    "engine.report.support": ("SupportReport",),
    "engine.report.sync_result": ("CohortResult", "SyncResult"),
    "engine.report.why": ("UidReport",),
    "engine.runs.arguments": (
        *("ExportArguments", "Note", "Observers", "PlanArguments", "PlanObservers", "Reading"),
    ),
    "engine.runs.snapshots": ("Snapshots",),
    "engine.sync.request": ("Phase", "SyncObservers", "SyncOpening"),
}
"""Where each name is defined."""


_SUBMODULES = {"errors": "engine.errors", "events": "engine.delivery.events"}
"""The modules that programs use by name."""


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return import_module(_SUBMODULES[name])
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
