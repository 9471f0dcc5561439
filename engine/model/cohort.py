"""Cohorts and the operations on them."""

import re
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import UsageError

RESTRICTED_NAME_CHARACTERS = '|*?\\:<>=$"'
"""Characters that the API does not accept in a cohort's name."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Action(StrEnum):
    """The action of a push on its uids; the values are those of `--action`."""

    ADD = "add"
    REMOVE = "remove"

    @property
    def on_the_wire(self) -> str:
        """The action's name in the API."""
        return f"{self.value}_members"


class Operation(StrEnum):
    """One kind of change in a run: a push has one operation, a mirror has up to three."""

    ADD = "add"
    REMOVE = "remove"
    RESEND = "resend"
    """Adds existing members again."""

    @property
    def action(self) -> Action:
        """The action in the request to the API."""
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
    """A custom segment, identified by the id that its owner assigned.

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
        """A warning about a leading period in the name: the vendor's documents disagree on it."""
        if self.name.startswith("."):
            return (
                "the cohort's name starts with a period, which one of the API's documents forbids"
            )
        return None


@dataclass(frozen=True, slots=True)
class CohortKey:
    """The key of a cohort in one ledger."""

    partner: str
    cohort_id: str
    is_shadow: bool = False
    """Whether the key means the cohort's state as if each dry run had been sent."""

    @property
    def values(self) -> tuple[str, str, bool]:
        """The values of the key's columns in the ledger."""
        return self.partner, self.cohort_id, self.is_shadow
