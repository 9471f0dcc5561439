"""What a run shows on stderr while it goes on: a bar on a terminal, log lines anywhere else."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, Self

from engine.cli.text import printable
from engine.delivery.events import Answered, Divided, Event, Settled, Stopping
from engine.delivery.outcome import (
    BatchState,
    NotSent,
    Throttled,
    Unconfirmed,
)
from engine.pacing import LONGEST_HOLD_SECONDS, PacingSettings
from engine.report.result import Opening
from engine.report.tally import Tally

LOG_EVERY_SECONDS = 10.0

ShareRead = Callable[[], float | None]
"""Tells how much of the export has been read, from 0 to 1; None where that cannot be known."""


class View(Protocol):
    """Shows a run; a context manager around it."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def note(self, text: str, *, is_warning: bool = False) -> None:
        """Show a remark."""

    def opened(self, opening: Opening) -> None:
        """Show where the run goes."""

    def observe(self, event: Event) -> None:
        """Hear what happens."""


def make_view(pacing: PacingSettings, share_read: ShareRead) -> View:
    """Return the view that suits this stderr."""
    tally = Tally(pacing.requests / pacing.per_seconds, time.monotonic())
    if sys.stderr.isatty():
        from engine.cli.terminal import TerminalView

        return TerminalView(tally, share_read)
    return LogView(tally, share_read)


def describe(opening: Opening) -> str:
    """Return the line that each run opens with."""
    return (
        f"target {opening.target} · workspace {opening.workspace} · partner {opening.partner} · "
        f"cohort {opening.cohort.id} ({opening.cohort.name}) · {opening.action} · "
        f"ceiling {opening.ceiling.requests} requests / {opening.ceiling.per_seconds:g} s"
    )


def describe_run(opening: Opening) -> str:
    """Return the line that tells which run this is, and whether it goes on."""
    if opening.is_resumed:
        return f"run {opening.run} goes on: {opening.known_uids:,} uids of it are in the ledger"
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
        case Stopping(reason):
            return f"stopping: {reason}; requests under way are waited for"
        case _:
            return None


class LogView:
    """Structured log lines: a time, a level, an event, and its fields as key=value."""

    def __init__(self, tally: Tally, share_read: ShareRead) -> None:
        self._tally = tally
        self._share_read = share_read
        self._next_line = time.monotonic() + LOG_EVERY_SECONDS
        self._is_opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_opened:
            self._progress_line()

    def note(self, text: str, *, is_warning: bool = False) -> None:
        """Log a remark."""
        log("warning" if is_warning else "info", "note", text=text)

    def opened(self, opening: Opening) -> None:
        """Log where the run goes."""
        self._is_opened = True
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
        )

    def observe(self, event: Event) -> None:
        """Log trouble as it comes, and progress now and then."""
        now = time.monotonic()
        self._tally.fold(event, now)
        if (sentence := trouble(event)) is not None:
            log("warning", type(event).__name__.lower(), text=sentence)
        if now >= self._next_line:
            self._next_line = now + LOG_EVERY_SECONDS
            self._progress_line()

    def _progress_line(self) -> None:
        tally, now = self._tally, time.monotonic()
        left = tally.seconds_left(now, self._share_read())
        log(
            "info",
            "progress",
            accepted=tally.accepted,
            planned=tally.planned,
            uids_per_second=round(tally.uids_per_second(now)),
            requests=tally.sent,
            throttled=tally.throttled,
            ceiling_use=round(tally.ceiling_use, 4),
            eta_seconds=None if left is None else round(left),
        )


def log(level: str, event: str, **fields: object) -> None:
    """Write one line to stderr, in logfmt; values with blanks are quoted."""
    time_text = datetime.now(UTC).isoformat(timespec="milliseconds")
    pairs = [f"time={time_text}", f"level={level}", f"event={event}"]
    pairs += [f"{key}={_logfmt(value)}" for key, value in fields.items()]
    sys.stderr.write(" ".join(pairs) + "\n")
    sys.stderr.flush()


def _logfmt(value: object) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    plain = text and all(c > " " and c not in '="' for c in text) and text == printable(text)
    if plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
