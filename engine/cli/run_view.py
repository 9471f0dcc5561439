"""Progress of a run: the protocol of a view, and the sentences that all views show."""

from collections.abc import Callable
from math import ceil
from typing import Protocol, Self

from engine.delivery.events import Answered, Divided, Event, Settled, Stopping, Waiting
from engine.delivery.outcome import NotSent, Throttled, Unconfirmed
from engine.model.quantity import counted
from engine.model.status import BatchState
from engine.pacing.gate import LONGEST_HOLD_SECONDS
from engine.report.run_results import Opening

Estimate = Callable[[], float | None]
"""Returns the estimated number of uids in the whole run; None if unknown."""


class View(Protocol):
    """Shows a run; a context manager that encloses the run."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def note(self, text: str, *, label: str | None = None) -> None:
        """Show a remark; its label is its kind, `note` or `warning`."""

    def opened(self, opening: Opening) -> None:
        """Show the target of the run."""

    def expect(
        self, whole: int, *, first: int | None = None, held: int = 0, settle_seconds: float = 0.0
    ) -> None:
        """Use the counts of a plan. See `LiveCounts.expect`."""

    def observe(self, event: Event) -> None:
        """Handle an event."""


def describe(opening: Opening) -> str:
    """Return the first line of a run."""
    ceiling = opening.ceiling
    return (
        f"target {opening.target} · workspace {opening.workspace} · partner {opening.partner} · "
        f"cohort {opening.cohort.id} ({opening.cohort.name}) · {opening.action} · "
        f"ceiling {counted(ceiling.requests, 'request')} / {ceiling.per_seconds:g} s"
    )


def describe_run(opening: Opening) -> str:
    """Return the line with the name of the run, and whether it is resumed."""
    if opening.is_resumed and not opening.known_uids:
        return f"run {opening.run} goes on: nothing of it is sent yet"
    if opening.is_resumed:
        verb = "is" if opening.known_uids == 1 else "are"
        return (
            f"run {opening.run} goes on: {counted(opening.known_uids, 'uid')} of it {verb} in the "
            f"ledger, {opening.accepted_before:,} of them accepted"
        )
    if opening.run is None:
        return "dry run: nothing is sent, nothing written"
    return f"run {opening.run} begins"


def trouble(event: Event) -> str | None:
    """Return a sentence, without uids, for an event to report to the user; otherwise None."""
    match event:
        case Answered(batch, attempt, Throttled(wait), _):
            held = f", as it asks for {wait:g} s" if wait is not None else ""
            if wait is not None and wait > LONGEST_HOLD_SECONDS:
                held += f", for {LONGEST_HOLD_SECONDS:g} s at the most"
            return f"batch {batch}, attempt {attempt}: 429, so everything is held{held}"
        case Answered(batch, _, NotSent(reason, is_kept_back=is_kept_back), _):
            # No attempt was made; the stop itself is reported.
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
