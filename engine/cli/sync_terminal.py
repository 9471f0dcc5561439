"""Shows a sync on a terminal: a live line for each cohort and each ceiling."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from engine import CohortResult, Opening, SyncOpening
from engine.cli.disturbance import Disturbance
from engine.cli.signs import Sign, shown_on
from engine.cli.sync_progress import CohortProgress, WorkspaceProgress
from engine.cli.sync_rows import rows
from engine.cli.sync_view import SyncView, is_warning
from engine.cli.text import wrapped
from engine.cli.verbosity import Verbosity
from engine.cli.verdict import cohort_lines
from engine.delivery.events import Event, Stopping, Waiting
from engine.report.forecast import CohortForecast


class TerminalSyncView(SyncView):
    """Live lines at the bottom; how each cohort ended, and remarks, scroll up above them."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(now)
        self._utc_ns = utc_ns
        self._stream = sys.stderr  # While live lines are shown, rich puts a proxy in its place.
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(
            console=self._console,
            get_renderable=self.picture,
            refresh_per_second=4,
            transient=True,
        )
        self._late: set[str] = set()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._live.is_started:
            self._live.stop()

    def begun(self, opening: SyncOpening) -> None:
        """Begin to show live lines."""
        del opening
        if self._shown is not Verbosity.QUIET:
            self._live.start()

    def entered(self, cohort: CohortProgress) -> None:
        """Do nothing: the live line shows it."""

    def opened(self, key: str, opening: Opening) -> None:
        """Print where a run sends, if verbose."""
        if self._shown is Verbosity.VERBOSE:
            self._print(f"{key}: run {opening.run}, target {opening.target}")

    def planned(self, key: str, plan: Mapping[str, Any]) -> None:
        """Print the warnings about a plan."""
        for note in plan["notes"]:
            self.note(f"{key}: {note}", label="warning")

    def forecast(self, sentence: str, forecasts: Mapping[str, CohortForecast]) -> None:
        """Print the forecast once for each cohort that is late, and always if verbose."""
        late = {key for key, each in forecasts.items() if each.is_late}
        if not late <= self._late:
            self._late |= late
            self.note(sentence, label="warning")
        elif self._shown is Verbosity.VERBOSE:
            self._print(f"forecast: {sentence}")

    def remark(self, key: str, event: Event, sentence: str) -> None:
        """Print an event; a stop concerns all cohorts, and a wait needs no attention."""
        is_quiet = self._shown is Verbosity.QUIET and isinstance(event, Waiting)
        if is_quiet or (isinstance(event, Stopping) and self._shown is not Verbosity.VERBOSE):
            return
        self._print(f"{key}: {sentence}", "yellow")

    def disturbed(self, workspace: WorkspaceProgress, disturbance: Disturbance) -> None:
        """Print a disturbance when it is over; until then its live line counts."""
        if disturbance.is_over:
            self._print(f"{workspace.name}: {disturbance.sentence(self._now())}", "yellow")

    def ended(self, result: CohortResult) -> None:
        """Print how a cohort ended, unless it is well and all should be quiet."""
        if self._shown is Verbosity.QUIET:
            return  # The summary names those that need attention.
        if self._live.is_started:
            self._live.refresh()  # Its live line goes before its verdict comes.
        for line in cohort_lines(result):
            self._print(line)

    def note(self, text: str, *, label: str | None = None) -> None:
        """Print a remark; one that is no warning only if verbose."""
        if is_warning(text, label) or self._shown is Verbosity.VERBOSE:
            self._print(f"{label}: {text}" if label else text)

    def tick(self) -> None:
        """Do nothing: the live lines are drawn anew by a timer of their own."""

    def _print(self, line: str, style: str = "") -> None:
        for piece in wrapped(shown_on(self._stream, line), self._console.width, "    "):
            text = Text(piece, style)
            for sign in Sign:
                if piece.startswith(f"{sign.character} "):
                    text.stylize(sign.color, 0, 1)
            self._console.print(text, soft_wrap=True)

    def picture(self) -> Group:
        """Return the live lines; called at each refresh, so that times advance without events."""
        if self._progress is None:  # Live asks for it before it is started.
            return Group()
        console = self._console
        found = rows(self._progress, console.width, console.height - 1, self._now(), self._utc_ns())
        return Group(
            *(Text(shown_on(self._stream, text), style, no_wrap=True) for text, style in found)
        )
