"""The MoEngage workspace that a run writes to, and its API key."""

import re
from dataclasses import dataclass
from typing import Self

from engine.errors import ConfigError
from engine.model.endpoint import Endpoint

NO_API_KEY = (
    "no API key: name a file that holds it as `workspace.api_key_file`, or set `MOENGAGE_API_KEY`"
)

_PRINTABLE = re.compile(r"[!-~]+")
"""What basic authentication and headers can carry: ASCII without blanks and controls."""


class ApiKey:
    """A Data API key that only `reveal` shows.

    It is no dataclass, so that neither `repr` nor `dataclasses.asdict` of an object that holds it
    shows it.
    """

    __slots__ = ("_value", "readable_by_others", "source")

    def __init__(self, value: str, source: str, *, readable_by_others: bool = False) -> None:
        self._value = value
        self.source = source
        """Where it was found; may be shown."""
        self.readable_by_others = readable_by_others
        """Whether it came from a file whose mode lets other users of the machine read it."""

    @classmethod
    def parse(cls, text: str, source: str, *, readable_by_others: bool = False) -> Self:
        """Make a key of `text`, whose trailing newline is not part of it.

        Raises `ValueError` with a clause that says what is wrong and never repeats `text`.
        """
        value = text.rstrip("\r\n")
        if not value:
            raise ValueError("holds nothing")
        if not _PRINTABLE.fullmatch(value):
            raise ValueError("should hold an API key: printable ASCII without blanks")
        return cls(value, source, readable_by_others=readable_by_others)

    def reveal(self) -> str:
        """Return the key itself, for the Authorization header and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"ApiKey(***, from {self.source})"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The owner of the cohorts: workspace, endpoint and partner."""

    id: str
    """The workspace id, once called app id; see `is_workspace_id`."""
    api_key: ApiKey | None
    """None only where the configuration was loaded without credentials."""
    endpoint: Endpoint
    partner: str

    def require_key(self) -> ApiKey:
        """Return the key; raises `ConfigError` where the configuration was loaded without it."""
        if self.api_key is None:
            raise ConfigError(NO_API_KEY)
        return self.api_key


def is_workspace_id(text: str) -> bool:
    """Return whether `text` is valid: printable ASCII without a colon, which ends a user's name."""
    return _PRINTABLE.fullmatch(text) is not None and ":" not in text
