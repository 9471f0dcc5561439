"""Cohorts, and the operations on them."""

import re
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import UsageError

RESTRICTED_NAME_CHARACTERS = '|*?\\:<>=$"'
"""What the API does not take in a cohort's name."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Action(StrEnum):
    """What a push does with its uids; the values are those of `--action`."""

    ADD = "add"
    REMOVE = "remove"

    @property
    def on_the_wire(self) -> str:
        """Its name in the API."""
        return f"{self.value}_members"


class Operation(StrEnum):
    """A part of a run that does one thing: a push has one operation, a mirror up to three."""

    ADD = "add"
    REMOVE = "remove"
    RESEND = "resend"
    """Members that are in already, added once more."""

    @property
    def action(self) -> Action:
        """The action that the API is asked for."""
        return Action.REMOVE if self is Operation.REMOVE else Action.ADD


def check_id(cohort_id: str) -> None:
    """Raise `UsageError` for an invalid cohort id."""
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
        """A warning about the name: the vendor's documents disagree on a period at its start."""
        if self.name.startswith("."):
            return (
                "the cohort's name starts with a period, which one of the API's documents forbids"
            )
        return None


@dataclass(frozen=True, slots=True)
class CohortKey:
    """What identifies a cohort within one ledger."""

    partner: str
    cohort_id: str
    is_shadow: bool = False
    """Whether it is the cohort as if each dry run had been sent."""

    @property
    def values(self) -> tuple[str, str, bool]:
        """The values of the key's columns in the ledger."""
        return self.partner, self.cohort_id, self.is_shadow
