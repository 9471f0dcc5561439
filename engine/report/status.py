"""The present: what runs, and how each cohort stands. The data of `cohortsync status`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.coordination.inquiry import CeilingNow
from engine.errors import ExitStatus
from engine.report.accounts import SCHEMA_VERSION, timestamp
from engine.report.next_step import NextStep
from engine.report.period import CohortPeriod, Level
from engine.report.state import StateUsage
from engine.source.source_file import format_bytes


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run that a process works on."""

    workspace: str
    """The name of its workspace in the configuration."""
    cohort: str
    """The cohort's key; its id if it is not configured."""
    run: str
    action: str
    started_utc_ns: int
    process: str
    """The process, with its host, and the time since when it works on the cohort."""
    state: str
    """What it does, or what it waits for: a clause without a subject."""
    planned: int
    accepted: int

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return {
            "workspace": self.workspace,
            "cohort": self.cohort,
            "run": self.run,
            "action": self.action,
            "started_at": timestamp(self.started_utc_ns),
            "process": self.process,
            "state": self.state,
            "planned": self.planned,
            "accepted": self.accepted,
        }


@dataclass(frozen=True, slots=True)
class CohortHealth:
    """How one cohort stands."""

    cohort: str
    """The cohort's key in the configuration; its id if it is not configured."""
    workspace: str
    cohort_id: str
    name: str
    mode: str
    members: int | None
    """By the last snapshot; None for a cohort that is not mirrored."""
    unknown: int
    """Uids that may or may not be members, or of which an answer is missing."""
    rejected: int
    """Rejected uids and invalid rows of the last run."""
    last_success_utc_ns: int | None
    """When a run or sync of it last ended with exit status 0."""
    due_utc_ns: int | None
    """When the next success was expected at the latest; None without `expect_every`, and if there
    was no success yet."""
    is_overdue: bool
    next_step: NextStep | None
    """What to do; None if nothing needs attention."""
    last: CohortPeriod | None
    """How its last run or sync ended, or what runs now; None if it never ran, or not since the
    ledger was restored."""
    backup_utc_ns: int | None = None
    """When the backup was made that the ledger was restored from; None if it was not restored, and
    if the cohort has run since, or has never run."""

    @property
    def level(self) -> Level:
        """How much attention it needs."""
        if self.is_overdue:
            return Level.FAILED
        if self.backup_utc_ns is not None:
            return Level.ATTENTION
        return self.last.level if self.last else Level.EMPTY

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        last, step = self.last, self.next_step
        change = last.change if last else None
        return {
            "cohort": self.cohort,
            "workspace": self.workspace,
            "cohort_id": self.cohort_id,
            "cohort_name": self.name,
            "mode": self.mode,
            "members": self.members,
            "unknown": self.unknown,
            "rejected": self.rejected,
            "last_success_at": _time(self.last_success_utc_ns),
            "due_at": _time(self.due_utc_ns),
            "is_overdue": self.is_overdue,
            "restored_from_backup_of": _time(self.backup_utc_ns),
            "status": last.status if last else None,
            "exit_status": last.exit_status if last else None,
            "reason": last.reason if last else None,
            "run": last.accounts.run if last and last.accounts else None,
            "sync": last.sync if last else None,
            "started_at": _time(last.started_utc_ns) if last else None,
            "finished_at": _time(last.finished_utc_ns) if last else None,
            "changes": change._asdict() if change else None,
            "next_command": step.command if step else None,
            "hint": step.hint if step else None,
        }


@dataclass(frozen=True, slots=True)
class WorkspaceCeiling:
    """The ceiling of a workspace that hosts share, and who uses it."""

    workspace: str
    """The name of the workspace in the configuration."""
    server: str
    now: CeilingNow | None
    """None if the server cannot be asked."""
    problem: str | None = None
    """Why it cannot be asked."""

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        now = self.now
        return {
            "workspace": self.workspace,
            "server": self.server,
            "problem": self.problem,
            "requests": now and now.requests,
            "used": now and now.used,
            "held_seconds": now and now.held_seconds,
            "processes": now
            and [{"process": each.process, "requests": each.requests} for each in now.processes],
        }


@dataclass(frozen=True, slots=True)
class Status:
    """What runs now, and how every cohort stands."""

    at_utc_ns: int
    running: Sequence[RunningRun]
    cohorts: Sequence[CohortHealth]
    """Those of the configuration, in its order; if it has none, those that have a run."""
    others: int
    """Cohorts that have a run and are not in `cohorts`."""
    usage: StateUsage
    """The size of the state folder."""
    shared: Sequence[WorkspaceCeiling] = ()
    """The ceilings that hosts share."""

    @property
    def has_begun(self) -> bool:
        """Whether any cohort has ever run."""
        return bool(self.others) or any(each.last is not None for each in self.cohorts)

    @property
    def overdue(self) -> Sequence[CohortHealth]:
        """The cohorts that are overdue."""
        return [each for each in self.cohorts if each.is_overdue]

    @property
    def exit_status(self) -> ExitStatus:
        """1 if a cohort is overdue, otherwise 0."""
        return ExitStatus.PARTIAL if self.overdue else ExitStatus.ACCEPTED

    @property
    def reason(self) -> str | None:
        """Which cohorts are overdue; None if none is."""
        return (
            f"overdue: {', '.join(each.cohort for each in self.overdue)}" if self.overdue else None
        )

    @property
    def state_size(self) -> str:
        """The size of the state folder in words."""
        return format_bytes(self.usage.total)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `status`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "exit_status": int(self.exit_status),
            "reason": self.reason,
            "at": timestamp(self.at_utc_ns),
            "running": [each.to_dict() for each in self.running],
            "cohorts": [each.to_dict() for each in self.cohorts],
            "other_cohorts": self.others,
            "state_bytes": self.usage.to_dict(),
            "shared_ceilings": [each.to_dict() for each in self.shared],
        }


def _time(utc_ns: int | None) -> str | None:
    return None if utc_ns is None else timestamp(utc_ns)
