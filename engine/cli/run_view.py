"""What each view of a run does, and the sentences that all views show."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from engine.cli.disturbance import Disturbance, Disturbances, hold_clause
from engine.cli.verbosity import Verbosity, verbosity
from engine.delivery.events import Answered, Divided, Event, Paused, Settled, Stopping, Waiting
from engine.delivery.outcome import NotSent, Throttled, Unconfirmed
from engine.model.quantity import counted
from engine.model.status import BatchState
from engine.report.live_counts import LiveCounts
from engine.report.run_results import Opening

Estimate = Callable[[], float | None]
"""Returns the estimated number of uids in the whole run; None if unknown."""


class View(ABC):
    """Shows a run during a block that encloses it."""

    def __init__(
        self, counts: LiveCounts, estimate: Estimate, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the view; `now` returns seconds of the counts' clock."""
        self._counts = counts
        self._estimate = estimate
        self._now = now
        self._disturbances = Disturbances()
        self._remarks = Remarks(verbosity())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        for each in self._disturbances.end():
            self.disturbed(each)

    @abstractmethod
    def note(self, text: str, *, label: str | None = None) -> None:
        """Show a remark; its label is its kind, `note` or `warning`."""

    def opened(self, opening: Opening) -> None:
        """Show the target of the run."""
        self._counts.continue_from(opening.accepted_before, opening.rejected_before)

    def expect(
        self, whole: int, *, first: int | None = None, held: int = 0, settle_seconds: float = 0.0
    ) -> None:
        """Use the counts of a plan. See `LiveCounts.expect`."""
        now = self._now()
        self._counts.expect(whole, now, first=first, held=held, settle_seconds=settle_seconds)

    @abstractmethod
    def disturbed(self, disturbance: Disturbance) -> None:
        """Show an outage, or 429s, when it begins and when it is over."""

    def observe(self, event: Event) -> None:
        """Count an event."""
        now = self._now()
        self._counts.fold(event, now)
        for each in self._disturbances.fold(event, now):
            self.disturbed(each)

    @property
    def _whole(self) -> float | None:
        """The number of uids in the whole run, possibly an estimate; None if unknown."""
        return self._estimate() if self._counts.whole is None else self._counts.whole


class Remarks:
    """Selects the events of a run that are worth a line of their own."""

    def __init__(self, shown: Verbosity) -> None:
        self._shown = shown
        self._known: set[tuple[type[Event], BatchState | None]] = set()

    def on(self, event: Event) -> str | None:
        """Return a sentence about an event; None if there is none, or if it is only counted.

        A failed attempt is part of a disturbance, and has a line only if verbose. Of the batches
        that are split, rejected or left unconfirmed, the first of each kind has a line.
        """
        sentence = trouble(event)
        if sentence is None or self._shown is Verbosity.VERBOSE:
            return sentence
        match event:
            case Answered():
                return None
            case Divided() | Settled():
                kind = type(event), event.state if isinstance(event, Settled) else None
                if kind in self._known:
                    return None
                self._known.add(kind)
            case _:
                pass
        return sentence


def describe(opening: Opening) -> str:
    """Return the first line of a run."""
    ceiling = opening.ceiling
    return (
        f"target {opening.target} · workspace {opening.workspace} · partner {opening.partner} · "
        f"cohort {opening.cohort.id} ({opening.cohort.name}) · {opening.action} · "
        f"ceiling {counted(ceiling.requests, 'request')} / {ceiling.per_seconds:g} s"
        f"{ceiling.hours_clause}"
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
            held = hold_clause(wait)
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
        case Waiting() | Paused():
            return event.sentence
        case Stopping(reason):
            return f"stopping: {reason}; requests under way are waited for"
        case _:
            return None
