"""The MoEngage workspace that a run writes to, and its API key."""

import re
from dataclasses import dataclass

from engine.errors import ConfigError
from engine.model.endpoint import Endpoint
from engine.model.secret import Secret

KEY_VARIABLE = "MOENGAGE_API_KEY"
"""The environment variable of the key of the only workspace."""

_PRINTABLE = re.compile(r"[!-~]+")
"""Matches text that is valid in authentication and headers: ASCII without blanks or controls."""


class ApiKey(Secret):
    """A Data API key."""

    noun = "key"
    __slots__ = ()

    @classmethod
    def problem_of(cls, value: str) -> str | None:
        """Return why a value cannot be an API key; see `Secret.problem_of`."""
        is_valid = _PRINTABLE.fullmatch(value) is not None
        return None if is_valid else "should hold an API key: printable ASCII without blanks"


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
