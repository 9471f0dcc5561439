"""The settings of an emulator, with the API's own figures as defaults."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from engine.emulator.errors import EmulatorError
from engine.emulator.faults import FaultSettings
from engine.emulator.limiters import LimitSettings

DEMO_WORKSPACES: Final[Mapping[str, str]] = MappingProxyType({"DEMO": "demo-key"})
"""The default workspace and its key, if no others are named."""

_LARGEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """The settings of one emulator: address, workspaces and behavior."""

    host: str = "127.0.0.1"
    port: int = 8765
    """The port; 0 for any free port."""
    allow_remote: bool = False
    """Whether `host` may be reached from other machines."""
    workspaces: Mapping[str, str] = field(default_factory=lambda: DEMO_WORKSPACES, repr=False)
    """The key of each workspace id."""
    blocked: frozenset[str] = frozenset()
    """Workspaces whose account is suspended."""
    max_bytes: int = 131_072
    """The largest accepted body."""
    known_users: frozenset[str] | None = field(default=None, repr=False)
    """The users that exist; None if every uid is a user."""
    count_only: bool = False
    """Store counts but no members, so that memory use is bounded."""
    log: Path | None = None
    """A file for one line per authenticated request: its time of arrival and its status."""
    limits: LimitSettings = field(default_factory=LimitSettings)
    faults: FaultSettings = field(default_factory=FaultSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= _LARGEST_PORT:
            raise EmulatorError(f"port {self.port} is not from 0 to {_LARGEST_PORT}")
        if not self.workspaces:
            raise EmulatorError("the emulator needs at least one workspace")
        if self.max_bytes < 1:
            raise EmulatorError("the largest body must have at least 1 byte")
        for workspace in self.workspaces:
            if not workspace or ":" in workspace:
                raise EmulatorError("a workspace's id is not empty and has no colon")
        for workspace in self.blocked - set(self.workspaces):
            raise EmulatorError(f"the blocked workspace '{workspace}' is not one of those known")
        if not (self.allow_remote or _is_loopback(self.host)):
            raise EmulatorError(
                f"'{self.host}' can be reached from other machines",
                hint="the emulator protects nothing; pass --allow-remote to allow it",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
