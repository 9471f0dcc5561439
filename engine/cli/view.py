"""What a run shows on stderr while it goes on: a bar on a terminal, log lines anywhere else."""

import sys
import time
from collections.abc import Callable
from math import ceil
from typing import Protocol, Self

from engine.cli.messages import log
from engine.delivery.events import Answered, Divided, Event, Planned, Settled, Stopping, Waiting
from engine.delivery.outcome import NotSent, Throttled, Unconfirmed
from engine.model.status import BatchState
from engine.pacing import LONGEST_HOLD_SECONDS, PacingSettings
from engine.report.result import Opening
from engine.report.tally import Tally

LOG_EVERY_SECONDS = 10.0

Estimate = Callable[[], float | None]
"""Tells how many uids the whole run has, by what is known so far; None where nothing is known."""


class View(Protocol):
    """Shows a run; a context manager around it."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def note(self, text: str, *, label: str | None = None) -> None:
        """Show a remark; its label says of what kind it is: `note` or `warning`."""

    def opened(self, opening: Opening) -> None:
        """Show where the run goes."""

    def expect(
        self, whole: int, *, first: int | None = None, held: int = 0, settle_seconds: float = 0.0
    ) -> None:
        """Take over what a plan tells. See `Tally.expect`."""

    def observe(self, event: Event) -> None:
        """Hear what happens."""


def make_view(pacing: PacingSettings, estimate: Estimate) -> View:
    """Return the view that suits this stderr."""
    tally = Tally(pacing.requests / pacing.per_seconds, time.monotonic())
    if sys.stderr.isatty():
        from engine.cli.terminal import TerminalView

        return TerminalView(tally, estimate)
    return LogView(tally, estimate)


def describe(opening: Opening) -> str:
    """Return the line that each run opens with."""
    return (
        f"target {opening.target} · workspace {opening.workspace} · partner {opening.partner} · "
        f"cohort {opening.cohort.id} ({opening.cohort.name}) · {opening.action} · "
        f"ceiling {opening.ceiling.requests} requests / {opening.ceiling.per_seconds:g} s"
    )


def describe_run(opening: Opening) -> str:
    """Return the line that tells which run this is, and whether it goes on."""
    if opening.is_resumed and not opening.known_uids:
        return f"run {opening.run} goes on: nothing of it is sent yet"
    if opening.is_resumed:
        return (
            f"run {opening.run} goes on: {opening.known_uids:,} uids of it are in the ledger, "
            f"{opening.accepted_before:,} of them accepted"
        )
    if opening.run is None:
        return "dry run: nothing is sent, nothing written"
    return f"run {opening.run} begins"


def trouble(event: Event) -> str | None:
    """Return a sentence for an event that a person should hear of, without uids."""
    match event:
        case Answered(batch, attempt, Throttled(wait), _):
            held = f", as it asks for {wait:g} s" if wait is not None else ""
            if wait is not None and wait > LONGEST_HOLD_SECONDS:
                held += f", for {LONGEST_HOLD_SECONDS:g} s at the most"
            return f"batch {batch}, attempt {attempt}: 429, so everything is held{held}"
        case Answered(batch, _, NotSent(reason, is_kept_back=is_kept_back), _):
            # No attempt was made; and that a stop keeps batches back is told by the stop itself.
            return None if is_kept_back else f"batch {batch}: not sent: {reason}"
        case Answered(batch, attempt, Unconfirmed(reason), _):
            return f"batch {batch}, attempt {attempt}: unconfirmed: {reason}"
        case Divided(batch, reason):
            return f"batch {batch}: split in halves: {reason}"
        case Settled(batch, (BatchState.REJECTED | BatchState.UNCONFIRMED) as state, _, reason):
            return f"batch {batch}: {state}: {reason}"
        case Waiting(seconds):
            return f"waiting for earlier changes to settle, {ceil(seconds):,} s"
        case Stopping(reason):
            return f"stopping: {reason}; requests under way are waited for"
        case _:
            return None


class LogView:
    """Structured log lines: a time, a level, an event, and its fields as key=value."""

    def __init__(self, tally: Tally, estimate: Estimate) -> None:
        self._tally = tally
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
        """Log where the run goes."""
        self._tally.continue_from(opening.accepted_before, opening.rejected_before)
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
        """Take over what a plan tells. See `Tally.expect`."""
        now = time.monotonic()
        self._tally.expect(whole, now, first=first, held=held, settle_seconds=settle_seconds)

    def observe(self, event: Event) -> None:
        """Log trouble as it comes, and progress now and then."""
        now = time.monotonic()
        self._tally.fold(event, now)
        if (sentence := trouble(event)) is not None:
            level = "info" if isinstance(event, Waiting) else "warning"
            log(level, type(event).__name__.lower(), text=sentence)
        self._is_sending = self._is_sending or isinstance(event, Planned)
        if now >= self._next_line:
            self._next_line = now + LOG_EVERY_SECONDS
            self._progress_line()

    def _progress_line(self) -> None:
        tally, now = self._tally, time.monotonic()
        whole = self._estimate() if tally.whole is None else tally.whole
        left = tally.seconds_left(now, whole)
        log(
            "info",
            "progress",
            accepted=tally.accepted,
            planned=tally.planned,
            uids_per_second=round(tally.uids_per_second(now)),
            requests=tally.sent,
            accepted_requests=tally.accepted_requests,
            throttled=tally.throttled,
            ceiling_accepted=round(tally.ceiling_accepted, 4),
            ceiling_attempted=round(tally.ceiling_attempted, 4),
            eta_seconds=None if left is None else round(left),
        )
