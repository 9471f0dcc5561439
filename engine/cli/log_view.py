"""Selects the view for stderr: a bar on a terminal, otherwise log lines."""

import sys
import time
from typing import Self

from engine.cli.messages import log
from engine.cli.run_view import Estimate, View, trouble
from engine.delivery.events import Event, Planned, Waiting
from engine.pacing.settings import PacingSettings
from engine.report.live_counts import LiveCounts
from engine.report.run_results import Opening

LOG_EVERY_SECONDS = 10.0


def make_view(pacing: PacingSettings, estimate: Estimate) -> View:
    """Return the view for this stderr."""
    counts = LiveCounts(pacing.requests / pacing.per_seconds, time.monotonic())
    if sys.stderr.isatty():
        from engine.cli.terminal_view import TerminalView

        return TerminalView(counts, estimate)
    return LogView(counts, estimate)


class LogView:
    """Structured log lines: a time, a level, an event, and its fields as key=value."""

    def __init__(self, counts: LiveCounts, estimate: Estimate) -> None:
        self._counts = counts
        self._estimate = estimate
        self._next_line = time.monotonic() + LOG_EVERY_SECONDS
        self._is_sending = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_sending:
            self._progress_line()

    def note(self, text: str, *, label: str | None = None) -> None:
        """Log a remark."""
        is_warning = label == "warning" or text.startswith("warning: ")
        log("warning" if is_warning else "info", "note", text=text)

    def opened(self, opening: Opening) -> None:
        """Log the target of the run."""
        self._counts.continue_from(opening.accepted_before, opening.rejected_before)
        log(
            "info",
            "opened",
            target=opening.target,
            workspace=opening.workspace,
            partner=opening.partner,
            cohort_id=opening.cohort.id,
            cohort_name=opening.cohort.name,
            action=opening.action,
            ceiling=f"{opening.ceiling.requests}/{opening.ceiling.per_seconds:g}s",
            run=opening.run,
            resumed=opening.is_resumed,
            known_uids=opening.known_uids,
            accepted_before=opening.accepted_before,
        )

    def expect(
        self, whole: int, *, first: int | None = None, held: int = 0, settle_seconds: float = 0.0
    ) -> None:
        """Use the counts of a plan. See `LiveCounts.expect`."""
        now = time.monotonic()
        self._counts.expect(whole, now, first=first, held=held, settle_seconds=settle_seconds)

    def observe(self, event: Event) -> None:
        """Log trouble immediately, and progress at intervals."""
        now = time.monotonic()
        self._counts.fold(event, now)
        if (sentence := trouble(event)) is not None:
            level = "info" if isinstance(event, Waiting) else "warning"
            log(level, type(event).__name__.lower(), text=sentence)
        self._is_sending = self._is_sending or isinstance(event, Planned)
        if now >= self._next_line:
            self._next_line = now + LOG_EVERY_SECONDS
            self._progress_line()

    def _progress_line(self) -> None:
        counts, now = self._counts, time.monotonic()
        whole = self._estimate() if counts.whole is None else counts.whole
        left = counts.seconds_left(now, whole)
        log(
            "info",
            "progress",
            accepted=counts.accepted,
            planned=counts.planned,
            uids_per_second=round(counts.uids_per_second(now)),
            requests=counts.sent,
            accepted_requests=counts.accepted_requests,
            throttled=counts.throttled,
            ceiling_accepted=round(counts.ceiling_accepted, 4),
            ceiling_attempted=round(counts.ceiling_attempted, 4),
            eta_seconds=None if left is None else round(left),
        )
