"""Shows a sync by records, if stderr is not a terminal."""

from collections.abc import Mapping
from typing import Any

from engine import CohortResult, Opening, Phase, SyncOpening
from engine.cli.disturbance import Disturbance
from engine.cli.log_view import log_disturbance
from engine.cli.messages import level_of, log
from engine.cli.summary import end_fields
from engine.cli.sync_progress import CohortProgress, WorkspaceProgress
from engine.cli.sync_view import SyncView, is_warning
from engine.cli.verbosity import Verbosity
from engine.delivery.events import Event, Waiting
from engine.report.forecast import CohortForecast

PROGRESS_SECONDS = 30.0
"""The interval of the records of progress."""
_QUIET_PHASES = {Phase.QUEUED, Phase.READY, Phase.ENDED}
"""Phases that have a record only if verbose: others follow at once."""


class LogSyncView(SyncView):
    """Records of the sync, of each cohort and of each workspace."""

    _next_progress: float | None = None
    _last_forecast = ""

    def begun(self, opening: SyncOpening) -> None:
        """Log which cohorts are synced."""
        self._next_progress = self._now() + PROGRESS_SECONDS
        keys = " ".join(each.key for each in opening.cohorts)
        count = len(opening.cohorts)
        log("info", "begun", sync=opening.sync, count=count, cohorts=keys, dry_run=opening.is_dry)

    def entered(self, cohort: CohortProgress) -> None:
        """Log a phase that may last."""
        if cohort.phase not in _QUIET_PHASES or self._shown is Verbosity.VERBOSE:
            log("info", "phase", cohort=cohort.line.key, phase=cohort.phase)

    def opened(self, key: str, opening: Opening) -> None:
        """Log the target of a run."""
        log(
            "info",
            "opened",
            cohort=key,
            run=opening.run,
            target=opening.target,
            workspace=opening.workspace,
            cohort_id=opening.cohort.id,
            cohort_name=opening.cohort.name,
            action=opening.action,
            resumed=opening.is_resumed,
            known_uids=opening.known_uids,
        )

    def planned(self, key: str, plan: Mapping[str, Any]) -> None:
        """Log the counts of a plan."""
        names = ("add", "remove", "resend", "held", "requests", "settle_seconds")
        log("info", "planned", cohort=key, **{name: plan[name] for name in names})
        for note in plan["notes"]:
            self.note(f"{key}: {note}", label="warning")

    def forecast(self, sentence: str, forecasts: Mapping[str, CohortForecast]) -> None:
        """Log when all would be done, if that has changed."""
        if sentence == self._last_forecast:
            return
        self._last_forecast = sentence
        is_late = any(each.is_late for each in forecasts.values())
        log("warning" if is_late else "info", "forecast", text=sentence)

    def remark(self, key: str, event: Event, sentence: str) -> None:
        """Log an event."""
        level = "info" if isinstance(event, Waiting) else "warning"
        log(level, type(event).__name__.lower(), cohort=key, text=sentence)

    def disturbed(self, workspace: WorkspaceProgress, disturbance: Disturbance) -> None:
        """Log the begin and the end of a disturbance."""
        log_disturbance(disturbance, self._now(), workspace=workspace.name)

    def ended(self, result: CohortResult) -> None:
        """Log how a cohort ended, with its counts."""
        hint = {"hint": result.hint} if result.hint else {}
        fields: dict[str, object] = {
            "cohort": result.cohort,
            "workspace": result.workspace,
            **(end_fields(result.run) if result.run else {}),
            "cohort_id": result.cohort_id,
            "status": result.status.value,
            "exit_status": int(result.exit_status),
            "reason": result.reason,
            **hint,
            "members": result.members,
        }
        log(level_of(result.exit_status), "ended", **fields)

    def note(self, text: str, *, label: str | None = None) -> None:
        """Log a remark."""
        log("warning" if is_warning(text, label) else "info", "note", text=text)

    def tick(self) -> None:
        """Log the progress at intervals."""
        now = self._now()
        if self._next_progress is None or now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_SECONDS
        for cohort in self._state.open_cohorts:
            if cohort.is_sending or cohort.phase in {Phase.PLANNING, Phase.SETTLING}:
                self._log_cohort(cohort, now)
        for workspace in self._state.workspaces.values():
            if workspace.ceiling is not None:
                self._log_workspace(workspace, now)

    def _log_cohort(self, cohort: CohortProgress, now: float) -> None:
        counts, whole = cohort.counts, cohort.whole
        left = counts.seconds_left(now, whole)
        log(
            "info",
            "progress",
            cohort=cohort.line.key,
            run=cohort.run,
            state=cohort.state(now),
            accepted=counts.accepted,
            planned=counts.planned,
            whole=None if whole is None else round(whole),
            uids_per_second=round(counts.uids_per_second(now)),
            requests=counts.sent,
            eta_seconds=None if left is None else round(left),
        )

    def _log_workspace(self, workspace: WorkspaceProgress, now: float) -> None:
        counts = workspace.counts
        log(
            "info",
            "progress",
            workspace=workspace.name,
            requests=counts.sent,
            requests_in_window=workspace.sent_in_window(now),
            accepted_requests=counts.accepted_requests,
            throttled=counts.throttled,
            ceiling_accepted=round(counts.ceiling_accepted, 4),
            ceiling_attempted=round(counts.ceiling_attempted, 4),
        )
