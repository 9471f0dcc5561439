"""What a run shows on a terminal: a live bar, and above it what a person should hear of."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from engine.cli.text import printable
from engine.cli.view import ShareRead, describe, describe_run, trouble
from engine.delivery.events import Event
from engine.report.result import Opening
from engine.report.tally import Tally


class TerminalView:
    """A live bar with the rate, the use of the ceiling, the uids accepted and the time left."""

    def __init__(self, tally: Tally, share_read: ShareRead) -> None:
        self._tally = tally
        self._share_read = share_read
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=False,
            refresh_per_second=8,
        )
        self._task = self._progress.add_task("push", total=None, figures="")
        self._is_opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_opened:
            self._refresh()
            self._progress.stop()

    def note(self, text: str, *, is_warning: bool = False) -> None:
        """Print a remark above the bar."""
        del is_warning  # Its words say so.
        self._console.print(printable(text), soft_wrap=True)

    def opened(self, opening: Opening) -> None:
        """Print the opening lines, and begin the bar."""
        self._console.print(printable(describe(opening)), style="bold", soft_wrap=True)
        self._console.print(describe_run(opening))
        if opening.run is not None:
            self._is_opened = True
            self._progress.start()

    def observe(self, event: Event) -> None:
        """Move the bar; print what a person should hear of above it."""
        self._tally.fold(event, time.monotonic())
        if (sentence := trouble(event)) is not None:
            self._console.print(printable(sentence), style="yellow", soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        tally, now = self._tally, time.monotonic()
        share = self._share_read()
        left = tally.seconds_left(now, share)
        figures = (
            f"{tally.accepted:,} uids accepted · {tally.uids_per_second(now):,.0f}/s · "
            f"ceiling {tally.ceiling_use:.1%} · {_eta(left)}"
        )
        total = tally.planned / share if share else None
        self._progress.update(self._task, completed=tally.settled, total=total, figures=figures)


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return "ETA -:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"ETA {hours}:{minutes:02}:{rest:02}" if hours else f"ETA {minutes}:{rest:02}"
