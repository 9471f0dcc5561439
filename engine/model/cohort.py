"""Cohorts and the operations on them."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

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


class TextProblem(NamedTuple):
    """Why a text cannot be sent to the API."""

    clause: str
    """Follows the name of the flag or key: `is empty`."""
    hint: str | None = None


def check_id(cohort_id: str) -> None:
    """Raise `UsageError` for an invalid cohort id."""
    _refuse("--cohort-id", id_problem(cohort_id))


def id_problem(cohort_id: str) -> TextProblem | None:
    """Return the problem of a cohort id; None if it is valid."""
    return text_problem(cohort_id) or (None if cohort_id.strip() else TextProblem("is empty"))


def name_problem(name: str) -> TextProblem | None:
    """Return the problem of a cohort's name; None if it is valid."""
    if not name.strip():
        return TextProblem("is empty")
    if found := sorted({c for c in name if c in RESTRICTED_NAME_CHARACTERS}):
        hint = f"leave out any of {' '.join(RESTRICTED_NAME_CHARACTERS)}"
        return TextProblem(f"holds {' '.join(found)}, which the API refuses", hint)
    return text_problem(name)


def text_problem(text: str) -> TextProblem | None:
    """Return the problem of any text that is sent to the API; None if it is valid."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        return TextProblem("is not valid UTF-8")
    if _CONTROL.search(text):
        return TextProblem("holds a control character", "leave it out")
    return None


def _refuse(flag: str, problem: TextProblem | None) -> None:
    if problem is not None:
        raise UsageError(f"{flag} {problem.clause}", hint=problem.hint)


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
        _refuse("--cohort-name", name_problem(self.name))
        _refuse("--cohort-description", text_problem(self.description or ""))

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
