"""Who follows a run: gets its events, remarks and plan."""

from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from engine.delivery.events import Observer
from engine.delivery.sender import StopSwitch
from engine.report.result import Opening


class Note(Protocol):
    """Takes a remark for people: one sentence, without a uid or a credential."""

    def __call__(self, text: str, *, label: str | None = None) -> None:
        """`label` is `note` or `warning`; None for a remark on progress."""


class Observers(TypedDict, total=False):
    """Who follows a run; each is called in the event loop, and must not block."""

    observe: Observer
    """Gets each event of the delivery; see `engine.delivery.events`."""
    opened: Callable[[Opening], None]
    """Gets the target, the cohort and the name of the run, before anything is sent."""
    note: Note
    switch: StopSwitch
    """Stops the run: pulled once, requests under way are waited for; twice, they are cancelled."""


class PlanObservers(Observers, total=False):
    """Who follows a run that plans."""

    planned: Callable[[dict[str, Any]], None]
    """Gets the plan, as `--json` has it, before anything is sent."""


def no_note(text: str, *, label: str | None = None) -> None:
    """Drop a remark."""
    del text, label
