"""Shows a run by records, if stderr is not a terminal."""

from engine.cli.disturbance import Disturbance
from engine.cli.messages import log
from engine.cli.run_view import Estimate, View
from engine.delivery.events import Event, Paused, Planned, Waiting
from engine.report.live_counts import LiveCounts
from engine.report.run_results import Opening

LOG_EVERY_SECONDS = 10.0


class LogView(View):
    """Records: a time, a level, an event, and its fields."""

    def __init__(self, counts: LiveCounts, estimate: Estimate) -> None:
        super().__init__(counts, estimate)
        self._next_line = self._now() + LOG_EVERY_SECONDS
        self._is_sending = False

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._is_sending:
            self._progress_line()

    def note(self, text: str, *, label: str | None = None) -> None:
        """Log a remark."""
        is_warning = label == "warning" or text.startswith("warning: ")
        log("warning" if is_warning else "info", "note", text=text)

    def opened(self, opening: Opening) -> None:
        """Log the target of the run."""
        super().opened(opening)
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

    def observe(self, event: Event) -> None:
        """Log trouble immediately, and progress at intervals."""
        super().observe(event)
        if (sentence := self._remarks.on(event)) is not None:
            level = "info" if isinstance(event, Waiting | Paused) else "warning"
            log(level, type(event).__name__.lower(), text=sentence)
        self._is_sending = self._is_sending or isinstance(event, Planned)
        if (now := self._now()) >= self._next_line:
            self._next_line = now + LOG_EVERY_SECONDS
            self._progress_line()

    def disturbed(self, disturbance: Disturbance) -> None:
        """Log that a disturbance begins, or is over."""
        log_disturbance(disturbance, self._now())

    def _progress_line(self) -> None:
        counts, now = self._counts, self._now()
        left = counts.seconds_left(now, self._whole)
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


def log_disturbance(disturbance: Disturbance, now: float, **whose: object) -> None:
    """Log that a disturbance begins, or is over; `whose` says of which workspace it is."""
    is_over = disturbance.is_over
    log(
        "info" if is_over else "warning",
        disturbance.kind.value,
        **whose,
        state="over" if is_over else "begun",
        attempts=disturbance.attempts,
        seconds=round(disturbance.seconds(now), 1),
        text=disturbance.sentence(now),
    )
