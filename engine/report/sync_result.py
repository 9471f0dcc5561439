"""The result of a sync: of each cohort, and of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ExitStatus
from engine.model.status import CohortStatus, RunStatus
from engine.report.accounts import SCHEMA_VERSION, timestamp
from engine.report.forecast import CohortForecast
from engine.report.run_results import RunResult, worst_of


@dataclass(frozen=True, slots=True)
class CohortResult:
    """How one cohort of a sync ended."""

    cohort: str
    """The cohort's key in the configuration."""
    workspace: str
    """The workspace's name in the configuration."""
    cohort_id: str
    cohort_name: str
    mode: str
    """mirror, add or remove."""
    status: CohortStatus | RunStatus
    exit_status: ExitStatus
    reason: str | None = None
    hint: str | None = None
    run: RunResult | None = None
    """The result of its run; None if it began none."""
    forecast: CohortForecast | None = None
    owner: str | None = None
    members: int | None = None
    """Members of a mirrored cohort afterwards, by its snapshot; None for a push, and if unknown."""
    bug: Exception | None = None
    """The error caused by a bug in this program, if one ended the cohort."""

    def to_dict(self) -> dict[str, Any]:
        """Return the cohort's part of the JSON document."""
        return {
            "cohort": self.cohort,
            "workspace": self.workspace,
            "cohort_id": self.cohort_id,
            "cohort_name": self.cohort_name,
            "mode": self.mode,
            "owner": self.owner,
            "status": self.status.value,
            "exit_status": int(self.exit_status),
            "reason": self.reason,
            "hint": self.hint,
            "members": self.members,
            "forecast": self.forecast.to_dict() if self.forecast else None,
            "run": self.run.to_dict() if self.run else None,
        }


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The results of all cohorts of a sync, in the order in which they were to be sent."""

    sync: str
    """The name of the sync."""
    started_utc_ns: int
    finished_utc_ns: int
    cohorts: Sequence[CohortResult]
    is_dry: bool = False
    """Whether everything was planned and nothing sent."""
    requests: int = 0
    """Requests sent in this sync; those that its runs sent in earlier ones do not count."""
    ceiling_use: float | None = None
    """`requests` as a share of those that the ceilings allowed from each workspace's first request
    to its last; None without any."""
    failure: str | None = None
    """Why the command that follows a complete sync failed: the exit status is then 75."""
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def worst(self) -> CohortResult | None:
        """The first of the cohorts with the worst exit status; None without cohorts."""
        if not self.cohorts:
            return None
        status = worst_of(each.exit_status for each in self.cohorts)
        return next(each for each in self.cohorts if each.exit_status is status)

    @property
    def exit_status(self) -> ExitStatus:
        """The worst exit status of the cohorts, and of the command that follows them."""
        after = [] if self.failure is None else [ExitStatus.INCOMPLETE]
        return worst_of([*(each.exit_status for each in self.cohorts), *after])

    @property
    def reason(self) -> str | None:
        """Why the exit status is not 0; None if it is."""
        if self.failure is not None:
            return self.failure
        worst = self.worst
        return f"{worst.cohort}: {worst.reason}" if worst and worst.reason else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `sync`."""
        return {
            "sync": self.sync,
            "exit_status": int(self.exit_status),
            "reason": self.reason,
            "is_dry_run": self.is_dry,
            "started_at": timestamp(self.started_utc_ns),
            "finished_at": timestamp(self.finished_utc_ns),
            "requests": self.requests,
            "ceiling_use": None if self.ceiling_use is None else round(self.ceiling_use, 6),
            "cohorts": [each.to_dict() for each in self.cohorts],
            "schema_version": self.schema_version,
        }


def status_named(name: str) -> CohortStatus | RunStatus:
    """Return the status of a cohort whose run has the status `name`."""
    return CohortStatus.DRY_RUN if name == CohortStatus.DRY_RUN else RunStatus(name)
