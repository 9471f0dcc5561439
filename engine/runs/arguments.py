"""Arguments that several methods of `Engine` take."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypedDict

from engine.delivery.events import RunObserver
from engine.delivery.stop import StopSwitch
from engine.model.cohort import Action
from engine.report.run_results import Opening
from engine.source.options import Format

Exports = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Files, globs, folders, URLs, or `-` for stdin; one or several."""
FormatName = Literal["auto"] | Format
ActionName = Action | Literal["add", "remove"]
OnChanged = Literal["refuse", "restart"]
"""What to do if an unfinished run cannot be resumed because its export changed or a later run has
sent to the cohort: raise an error, or begin a new run."""


class Reading(TypedDict, total=False):
    """The fields of `ReadingOptions`."""

    column: str | None
    format: FormatName
    header: bool
    strip: bool


class ExportArguments(Reading, total=False):
    """How an export is read, and the uids that are left out of it."""

    exclude: Exports
    exclude_column: str | None


class Note(Protocol):
    """Receives a remark for the user: one sentence, without a uid or a credential."""

    def __call__(self, text: str, *, label: str | None = None) -> None:
        """Receive `text`; `label` is `note` or `warning`, or None for a remark on progress."""


class Observers(TypedDict, total=False):
    """The observers of a run; each is called in the event loop, and must not block."""

    observe: RunObserver
    """Receives each event, and the run that it belongs to; see `engine.delivery.events`."""
    opened: Callable[[Opening], None]
    """Receives the target, the cohort and the name of the run, before anything is sent."""
    note: Note
    switch: StopSwitch
    """Stops each run that has it. Pulled once, the run waits for requests in flight; pulled twice,
    it cancels them."""


class PlanObservers(Observers, total=False):
    """The observers of a run that plans."""

    planned: Callable[[dict[str, Any]], None]
    """Receives the plan in the form of `--json`, before anything is sent."""


class PlanArguments(ExportArguments, PlanObservers, total=False):
    """The arguments of `Engine.plan`; see `Engine.mirror`."""

    first_action: ActionName
    allow: Sequence[str]
    reason: str | None
    assume_empty: bool
    trust: int | None
    wait_seconds: float


def no_note(text: str, *, label: str | None = None) -> None:
    """Drop a remark."""
    del text, label


def note_and_switch(observers: Observers | PlanObservers) -> tuple[Note, StopSwitch]:
    """Return the receiver of remarks and the stop switch; both are put into `observers`.

    Raises `TypeError` for an argument that is not an observer.
    """
    for name in observers.keys() - PlanObservers.__optional_keys__:
        raise TypeError(f"unexpected keyword argument {name!r}")
    return observers.setdefault("note", no_note), observers.setdefault("switch", StopSwitch())
