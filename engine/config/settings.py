"""Settings classes of the tables that no other folder has: workspace, state and sync."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from engine.model.endpoint import DataCenter
from engine.model.setting_values import (
    SHOULD_BE_COMMAND,
    SHOULD_BE_LIST,
    SHOULD_BE_TIME,
    SHOULD_BE_ZONE,
    Command,
    TextList,
    TimeOfDay,
    TimeZone,
)


@dataclass(frozen=True, slots=True)
class TopLevel:
    """The keys of the file that are in no table."""

    include: TextList = field(default=(), metadata=SHOULD_BE_LIST)
    """Patterns of further files, relative to this file's folder; they may hold [cohorts] only."""


@dataclass(frozen=True, slots=True)
class WorkspaceTable:
    """The table `workspace`, or one of `workspaces`."""

    id: str | None = None
    """The workspace id, from the MoEngage dashboard (Settings > Account > APIs)."""
    api_key_file: str | None = None
    """A file that holds the Data API key alone, with mode 0600."""
    api_key_command: Command | None = field(default=None, metadata=SHOULD_BE_COMMAND)
    """A program and its arguments; it prints the Data API key as one line within 30 seconds."""
    data_center: DataCenter | None = None
    """The number in the dashboard's address."""
    endpoint: str | None = None
    """scheme://host:port in place of a data center; http only on this machine."""
    partner: str = "cohortsync"
    """The name that the API files the cohorts under."""


@dataclass(frozen=True, slots=True)
class StateTable:
    """The location of the state."""

    dir: str = "state"
    """The folder of the ledgers, on a local disk."""


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long the state keeps what no later run needs."""

    keep_days: Annotated[int, Ge(1), Le(36_500)] = 90
    """Days after its end for which a run is kept, with its plan, attempts and rejects."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """When `cohortsync sync` runs, and when it stops."""

    time_zone: TimeZone | None = field(default=None, metadata=SHOULD_BE_ZONE)
    """The zone of `deadline`, `until` and dates in file names. None: the system's."""
    on_late: Literal["run", "refuse", "cut"] = "run"
    """What to do if a deadline can't be met: run anyway, begin nothing, or stop at the deadline.

    With `refuse`, the export of a push is read twice: first to count its requests."""
    until: TimeOfDay | None = field(default=None, metadata=SHOULD_BE_TIME)
    """The time of day at which it stops cleanly."""
    max_requests: Annotated[int, Ge(1), Le(1_000_000_000)] | None = None
    """The most requests that it sends in all."""
    after: Command | None = field(default=None, metadata=SHOULD_BE_COMMAND)
    """A program and its arguments, run without a shell after each sync that is complete."""
    after_seconds: Annotated[float, Ge(0.1), Le(86_400)] = 600.0
    """How long that command, and the one of each cohort, may take."""
    partial_is_complete: bool = False
    """Whether a sync with exit status 1 counts as complete."""
