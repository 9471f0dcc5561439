"""Shows a run on a terminal: a live bar, with messages above it."""

import sys
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.cli.disturbance import Disturbance
from engine.cli.run_view import Estimate, View, describe, describe_run
from engine.cli.signs import shown_on
from engine.cli.text import clock_duration, shortened, wrapped
from engine.cli.verbosity import Verbosity, verbosity
from engine.delivery.events import Event, Planned, Waiting
from engine.model.quantity import counted
from engine.report.live_counts import LiveCounts
from engine.report.run_results import Opening

_BAR_WIDTH = 20
_NARROW = 76
"""A terminal with fewer columns has no place for the bar."""


class TerminalView(View):
    """A live bar with the uids accepted, the time left, the rate and the use of the ceiling."""

    def __init__(
        self, counts: LiveCounts, estimate: Estimate, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(counts, estimate, now)
        self._stream = sys.stderr  # While live lines are shown, rich puts a proxy in its place.
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(console=self._console, get_renderable=self.picture, refresh_per_second=8)
        self._is_quiet = verbosity() is Verbosity.QUIET

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._live.is_started:
            if self._whole is None:
                self._counts.whole = self._counts.planned  # For a pipe, known only at its end.
            self._live.stop()

    def note(self, text: str, *, label: str | None = None) -> None:
        """Print a remark above the bar."""
        if self._is_quiet and label != "warning" and not text.startswith("warning: "):
            return
        self._print(f"{label}: {text}" if label else text)

    def opened(self, opening: Opening) -> None:
        """Print the opening lines."""
        super().opened(opening)
        if self._is_quiet:
            return
        self._print(describe(opening), style="bold")
        self._print(describe_run(opening))

    def observe(self, event: Event) -> None:
        """Count an event; show the bar after the first send; print a message on trouble."""
        super().observe(event)
        if (sentence := self._remarks.on(event)) is not None and not self._is_quiet:
            self._print(sentence, style="yellow")
        if isinstance(event, Planned | Waiting) and not (self._live.is_started or self._is_quiet):
            self._live.start()

    def disturbed(self, disturbance: Disturbance) -> None:
        """Print a disturbance when it is over; until then it is below the bar, and counts."""
        if disturbance.is_over:
            self._print(disturbance.sentence(self._now()), style="yellow")

    def _print(self, text: str, style: str = "") -> None:
        for piece in wrapped(shown_on(self._stream, text), self._console.width, "  "):
            self._console.print(Text(piece, style), soft_wrap=True)

    def picture(self) -> Group:
        """Return the current bar; called at each refresh, so that times advance without events."""
        counts, now, whole = self._counts, self._now(), self._whole
        left = counts.seconds_left(now, whole)
        about = "~" if counts.whole is None and whole != counts.settled else ""
        uids = counted(counts.accepted, "uid")
        if whole is not None:
            planned = counted(max(round(whole), counts.settled), "uid")
            uids = f"{counts.accepted:,} of {about}{planned}"
        text = Text(f"{uids} accepted · ETA {clock_duration(left)}", no_wrap=True)
        head: Table | Text = text
        if self._console.width >= _NARROW:
            bar = ProgressBar(whole, min(counts.settled, whole or 0), _BAR_WIDTH, whole is None)
            head = Table.grid(padding=(0, 1))
            head.add_row(bar, text)
        figures = (
            f"{counts.uids_per_second(now):,.0f} uids/s · ceiling {counts.ceiling_accepted:.1%} "
            f"accepted, {counts.ceiling_attempted:.1%} attempted"
        )
        if counts.waits_until is not None and now < counts.waits_until:
            figures = f"earlier changes settle in {clock_duration(counts.waits_until - now)}"
        current = [each.sentence(now) for each in self._disturbances.current]
        return Group(head, Text(figures), *(self._line(each) for each in current))

    def _line(self, text: str) -> Text:
        """Return one line about a disturbance, cut to the width."""
        shown = shortened(shown_on(self._stream, text), self._console.width)
        return Text(shown, "yellow", no_wrap=True)
