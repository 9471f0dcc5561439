"""The MoEngage workspace that a run writes to, and its API key."""

import re
from dataclasses import dataclass
from typing import Self

from engine.errors import ConfigError
from engine.model.endpoint import Endpoint

KEY_VARIABLE = "MOENGAGE_API_KEY"
"""The environment variable of the key of the only workspace."""

_PRINTABLE = re.compile(r"[!-~]+")
"""Matches text that is valid in authentication and headers: ASCII without blanks or controls."""


class ApiKey:
    """A Data API key that only `reveal` shows.

    It is not a dataclass, so that neither `repr` nor `dataclasses.asdict` of its owner shows the
    key.
    """

    __slots__ = ("_value", "readable_by_others", "source")

    def __init__(self, value: str, source: str, *, readable_by_others: bool = False) -> None:
        self._value = value
        self.source = source
        """The source of the key; may be shown."""
        self.readable_by_others = readable_by_others
        """Whether the key is from a file that other users of the machine can read by its mode."""

    @classmethod
    def parse(cls, text: str, source: str, *, readable_by_others: bool = False) -> Self:
        """Return a key from `text`, without its trailing newline.

        Raises `ValueError` with a clause that describes the problem and never repeats `text`.
        """
        value = text.rstrip("\r\n")
        if not value:
            raise ValueError("holds nothing")
        if not _PRINTABLE.fullmatch(value):
            raise ValueError("should hold an API key: printable ASCII without blanks")
        return cls(value, source, readable_by_others=readable_by_others)

    def reveal(self) -> str:
        """Return the key itself; use it only for the Authorization header."""
        return self._value

    def __repr__(self) -> str:
        return f"ApiKey(***, from {self.source})"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The owner of the cohorts: workspace, endpoint and partner."""

    id: str
    """The workspace id, once called app id; see `is_workspace_id`."""
    api_key: ApiKey | None
    """The key; None only if the configuration was loaded without credentials."""
    endpoint: Endpoint
    partner: str

    def require_key(self) -> ApiKey:
        """Return the key; raises `ConfigError` if the configuration was loaded without it."""
        if self.api_key is None:
            raise ConfigError(no_api_key())
        return self.api_key


def no_api_key(table: str = "workspace", variable: str = KEY_VARIABLE) -> str:
    """Return the problem of a workspace without a key; it names the workspace's own table."""
    return f"no API key: name a file that holds it as `{table}.api_key_file`, or set `{variable}`"


def is_workspace_id(text: str) -> bool:
    """Return whether `text` is printable ASCII without a colon, which would end the user name."""
    return _PRINTABLE.fullmatch(text) is not None and ":" not in text
