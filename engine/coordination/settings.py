"""Settings for what processes on several hosts share."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from engine.model.setting_values import SHOULD_BE_COMMAND, Command

_URL = {
    "should_be": 'a URL as "redis://host:6379/0", "rediss://host:6380" or "unix:///run/redis.sock"',
    "is_secret": True,
}
_DOWN = {"should_be": '"stop", or a share of the ceiling from 0.001 to 1.0'}


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """The server that processes on several hosts share a ceiling by."""

    shared: str | None = field(default=None, metadata=_URL, repr=False)
    """The Redis or Valkey server; None: the processes of one state folder share a ceiling."""
    shared_password_file: str | None = None
    """A file that holds the server's password alone, with mode 0600."""
    shared_password_command: Command | None = field(default=None, metadata=SHOULD_BE_COMMAND)
    """A program and its arguments; it prints the password as one line within 30 seconds."""
    shared_ca_file: str | None = None
    """Certificates (PEM) that the server's certificate is checked by; by default, the system's."""
    shared_plain: bool = False
    """Whether a password may go over redis:// to another host, on a network that is private."""
    shared_down: Literal["stop"] | Annotated[float, Ge(0.001), Le(1)] = field(
        default="stop", metadata=_DOWN
    )
    """While the server cannot be reached: send nothing, or this share of the ceiling."""
    weight: Annotated[int, Ge(1), Le(10)] = 1
    """This process's share of the ceiling in relation to other processes that send."""
