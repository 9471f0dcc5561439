"""Shows a run on a terminal: a live bar, with messages above it."""

import time
from collections.abc import Callable
from math import ceil
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.cli.progress import Estimate, describe, describe_run, trouble
from engine.cli.text import wrapped
from engine.delivery.events import Event, Planned, Waiting
from engine.model.foreign_text import printable
from engine.model.quantity import counted
from engine.report.result import Opening
from engine.report.tally import Tally

_BAR_WIDTH = 20


class TerminalView:
    """A live bar with the uids accepted, the time left, the rate and the use of the ceiling."""

    def __init__(
        self, tally: Tally, estimate: Estimate, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the view; `now` returns seconds of the tally's clock."""
        self._tally = tally
        self._estimate = estimate
        self._now = now
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(console=self._console, get_renderable=self.picture, refresh_per_second=8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            if self._tally.whole is None and self._estimate() is None:
                self._tally.whole = self._tally.planned  # For a pipe, known only at its end.
            self._live.stop()

    def note(self, text: str, *, label: str | None = None) -> None:
        """Print a remark above the bar."""
        self._print(f"{label}: {text}" if label else text)

    def opened(self, opening: Opening) -> None:
        """Print the opening lines."""
        self._tally.continue_from(opening.accepted_before, opening.rejected_before)
        self._print(describe(opening), style="bold")
        self._print(describe_run(opening))

    def expect(
        self, whole: int, *, first: int | None = None, held: int = 0, settle_seconds: float = 0.0
    ) -> None:
        """Use the counts of a plan. See `Tally.expect`."""
        now = self._now()
        self._tally.expect(whole, now, first=first, held=held, settle_seconds=settle_seconds)

    def observe(self, event: Event) -> None:
        """Count an event; show the bar after the first send; print a message on trouble."""
        self._tally.fold(event, self._now())
        if (sentence := trouble(event)) is not None:
            self._print(sentence, style="yellow")
        if isinstance(event, Planned | Waiting) and not self._live.is_started:
            self._live.start()

    def _print(self, text: str, style: str = "") -> None:
        for piece in wrapped(printable(text), self._console.width, "  "):
            self._console.print(Text(piece, style), soft_wrap=True)

    def picture(self) -> Group:
        """Return the current bar; called at each refresh, so that times advance without events."""
        tally, now = self._tally, self._now()
        whole = self._estimate() if tally.whole is None else tally.whole
        left = tally.seconds_left(now, whole)
        about = "~" if tally.whole is None and whole != tally.settled else ""
        uids = counted(tally.accepted, "uid")
        if whole is not None:
            planned = counted(max(round(whole), tally.settled), "uid")
            uids = f"{tally.accepted:,} of {about}{planned}"
        bar = ProgressBar(whole, min(tally.settled, whole or 0), _BAR_WIDTH, pulse=whole is None)
        head = Table.grid(padding=(0, 1))
        head.add_row(bar, Text(f"{uids} accepted · ETA {_duration(left)}"))
        figures = (
            f"{tally.uids_per_second(now):,.0f} uids/s · ceiling {tally.ceiling_accepted:.1%} "
            f"accepted, {tally.ceiling_attempted:.1%} attempted"
        )
        if tally.waits_until is not None and now < tally.waits_until:
            figures = f"earlier changes settle in {_duration(tally.waits_until - now)}"
        return Group(head, Text(figures))


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(ceil(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
