"""The API's nouns: a cohort, what is done to it, and the request's envelope."""

import re
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import UsageError

RESTRICTED_NAME_CHARACTERS = '|*?\\:<>=$"'
"""What the API does not take in a cohort's name."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Action(StrEnum):
    """What a run does with its uids, in the command's words."""

    ADD = "add"
    REMOVE = "remove"

    @property
    def on_the_wire(self) -> str:
        """The API's word for it."""
        return f"{self.value}_members"


class Operation(StrEnum):
    """A part of a run that does one thing: a push has one operation, a mirror up to three."""

    ADD = "add"
    REMOVE = "remove"
    RESEND = "resend"
    """Members that are in already, added once more."""

    @property
    def action(self) -> Action:
        """What it asks of the API."""
        return Action.REMOVE if self is Operation.REMOVE else Action.ADD


def check_id(cohort_id: str) -> None:
    """Raise `UsageError` for an id that no cohort has."""
    _check_text("--cohort-id", cohort_id)
    if not cohort_id.strip():
        raise UsageError("--cohort-id is empty")


def _check_text(flag: str, text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{flag} is not valid UTF-8")
    if _CONTROL.search(text):
        raise UsageError(f"{flag} holds a control character", hint="leave it out")


@dataclass(frozen=True, slots=True)
class Cohort:
    """A custom segment, named by the id that its owner gave it.

    Raises `UsageError` for an id or a name that the API would refuse.
    """

    id: str
    name: str
    description: str | None = None

    def __post_init__(self) -> None:
        check_id(self.id)
        if not self.name.strip():
            raise UsageError("--cohort-name is empty")
        _check_text("--cohort-name", self.name)
        _check_text("--cohort-description", self.description or "")
        found = sorted({c for c in self.name if c in RESTRICTED_NAME_CHARACTERS})
        if found:
            raise UsageError(
                f"--cohort-name holds {' '.join(found)}, which the API refuses",
                hint=f"leave out any of {' '.join(RESTRICTED_NAME_CHARACTERS)}",
            )

    @property
    def warning(self) -> str | None:
        """What is doubtful about the name: the vendor's two documents disagree on a period."""
        if self.name.startswith("."):
            return (
                "the cohort's name starts with a period, which one of the API's documents forbids"
            )
        return None


@dataclass(frozen=True, slots=True)
class CohortKey:
    """What makes a cohort that cohort, within one ledger."""

    partner: str
    cohort_id: str
    is_shadow: bool = False
    """Whether it is the cohort as it would be, had all been sent that nobody ever sends."""

    @property
    def values(self) -> tuple[str, str, bool]:
        """As queries take it."""
        return self.partner, self.cohort_id, self.is_shadow
