"""The state of a running sync, as its events tell it; the terminal and the log show it."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.cli.disturbance import Disturbance, Disturbances
from engine.cli.live_ceiling import allowed_between
from engine.cli.text import clock_duration
from engine.delivery.events import RunEvent, Sent
from engine.report.accounts import Ceiling
from engine.report.forecast import CohortForecast
from engine.report.live_counts import LiveCounts
from engine.report.run_results import Opening
from engine.report.sync_result import CohortResult
from engine.sync.request import CohortLine, Phase, SyncOpening


@dataclass(slots=True)
class WorkspaceProgress:
    """How the runs of one workspace use its ceiling."""

    name: str
    counts: LiveCounts
    """Of all its runs together."""
    ceiling: Ceiling | None = None
    """None until the first run begins."""
    disturbances: Disturbances = field(default_factory=Disturbances)
    _sent: deque[float] = field(default_factory=deque)

    def open(self, ceiling: Ceiling) -> None:
        """Note the ceiling, which is the same for all its runs."""
        self.ceiling = ceiling
        self.counts.requests_allowed_per_second = ceiling.requests / ceiling.per_seconds

    def fold(self, event: RunEvent, now: float) -> Iterator[Disturbance]:
        """Count an event; yield each disturbance that begins or ends by it."""
        self.counts.fold(event.event, now)
        if isinstance(event.event, Sent):
            self._sent.append(now)
        return self.disturbances.fold(event.event, now)

    def sent_in_window(self, now: float) -> int:
        """Return the number of requests sent in the window that ends now."""
        if self.ceiling is None:
            return 0
        while self._sent and self._sent[0] <= now - self.ceiling.per_seconds:
            self._sent.popleft()
        return len(self._sent)


@dataclass(slots=True)
class CohortProgress:
    """What one cohort does, and how far it is."""

    line: CohortLine
    counts: LiveCounts
    phase: Phase | None = None
    """None before its workspace begins."""
    run: str | None = None
    opening: Opening | None = None
    forecast: CohortForecast | None = None

    @property
    def whole(self) -> float | None:
        """The number of uids of the whole run, possibly an estimate; None if unknown."""
        if self.counts.whole is not None or self.opening is None:
            return self.counts.whole
        return self.opening.expected_uids()

    @property
    def is_sending(self) -> bool:
        """Whether requests are sent for it."""
        return self.phase in {Phase.READY, Phase.SETTLING} and self.counts.sent > 0

    def state(self, now: float) -> str:
        """Return what it does or waits for, in at most 16 characters."""
        until = self.counts.waits_until
        if self.phase is Phase.SETTLING and until is not None and now < until:
            return f"settles {clock_duration(until - now)}"
        if self.is_sending:
            return "sending"
        return _STATES[self.phase]

    def seconds_left(self, now: float, utc_ns: int) -> float | None:
        """Return the seconds until it is done: by its own rate, else by the forecast.

        None if that is unknown, or if the time of the forecast has passed, as during an outage.
        """
        if self.is_sending:
            return self.counts.seconds_left(now, self.whole)
        if self.forecast is None or self.forecast.done_utc_ns <= utc_ns:
            return None
        return (self.forecast.done_utc_ns - utc_ns) / 1e9


_STATES = {
    None: "queued",
    Phase.QUEUED: "queued",
    Phase.WAITING_FOR_EXPORT: "waits for export",
    Phase.PLANNING: "planning",
    Phase.READY: "waits its turn",
    Phase.SETTLING: "waits its turn",
    Phase.ENDED: "ended",
}


class SyncProgress:
    """The cohorts and workspaces of a sync; times are in seconds of the clock of `began`."""

    def __init__(self, opening: SyncOpening, began: float) -> None:
        self.opening = opening
        self._began = began
        self.cohorts = {
            each.key: CohortProgress(each, LiveCounts(1.0, began)) for each in opening.cohorts
        }
        allowed = {name: allowed_between(each) for name, each in opening.ceilings.items()}
        self.workspaces = {
            name: WorkspaceProgress(name, LiveCounts(1.0, began, allowed_between=allowed.get(name)))
            for name in dict.fromkeys(each.workspace for each in opening.cohorts)
        }
        self.results: list[CohortResult] = []
        self._keys: dict[tuple[str, str, str], str] = {}

    def enter(self, key: str, phase: Phase) -> None:
        """Note what a cohort does from now on."""
        self.cohorts[key].phase = phase

    def open(self, key: str, opening: Opening) -> None:
        """Note the begin of a cohort's run."""
        cohort = self.cohorts[key]
        cohort.opening, cohort.run = opening, opening.run
        cohort.counts.continue_from(opening.accepted_before, opening.rejected_before)
        self.workspace_of(key).open(opening.ceiling)
        if opening.run is not None:
            self._keys[opening.workspace, opening.cohort.id, opening.run] = key

    def plan(self, key: str, plan: Mapping[str, Any], now: float) -> None:
        """Note the plan of a mirrored cohort."""
        self.cohorts[key].counts.expect(
            plan["add"] + plan["remove"] + plan["resend"],
            now,
            first=None,
            held=plan["held"],
            settle_seconds=plan["settle_seconds"],
        )

    def expect(self, forecasts: Mapping[str, CohortForecast]) -> None:
        """Note the forecasts of cohorts."""
        for key, forecast in forecasts.items():
            self.cohorts[key].forecast = forecast

    def key_of(self, event: RunEvent) -> str | None:
        """Return the cohort that an event belongs to; None if its run has not begun."""
        source = event.source
        return self._keys.get((source.workspace, source.cohort_id, source.run))

    def workspace_of(self, key: str) -> WorkspaceProgress:
        """Return the workspace of a cohort."""
        return self.workspaces[self.cohorts[key].line.workspace]

    def end(self, result: CohortResult) -> None:
        """Note how a cohort ended."""
        self.cohorts[result.cohort].phase = Phase.ENDED
        self.results.append(result)

    @property
    def open_cohorts(self) -> list[CohortProgress]:
        """The cohorts that have not ended, those that do most first."""
        left = [each for each in self.cohorts.values() if each.phase is not Phase.ENDED]
        return sorted(left, key=_rank)


def _rank(cohort: CohortProgress) -> int:
    order = (Phase.SETTLING, Phase.READY, Phase.PLANNING, Phase.WAITING_FOR_EXPORT)
    if cohort.is_sending:
        return 0
    return 1 + order.index(cohort.phase) if cohort.phase in order else 1 + len(order)
