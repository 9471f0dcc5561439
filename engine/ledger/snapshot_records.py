"""What the ledger keeps of a cohort's snapshots, and of the runs that change them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.clock import Stamp
from engine.model.cohort import Operation


@dataclass(frozen=True, slots=True)
class RangeOutcome:
    """Consecutive places of an operation, and the possible outcome of their uids."""

    operation: Operation
    first_uid: int
    uid_count: int
    is_accepted: bool
    """Whether they were accepted; otherwise it is unknown whether they were applied."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A run with attempts that the snapshot does not include yet."""

    run: int
    name: str
    last_attempt: int
    folded_attempt: int
    """The last attempt that the snapshot includes."""


@dataclass(frozen=True, slots=True)
class LastSend:
    """A run that sent something to the cohort, and the time of its last request."""

    run: int
    sent: Stamp
    is_followed: bool
    """Whether the cohort's snapshot includes it."""


@dataclass(frozen=True, slots=True)
class RunUids:
    """A run whose uids may be kept beside the ledger."""

    name: str
    is_needed: bool
    """Whether they may still be needed."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A snapshot as the ledger keeps it."""

    number: int
    run: int | None
    """The run that produced it; None if a command imported it."""
    file: str | None
    """Its file's name in the folder of snapshots; None once the file is deleted."""
    digest: bytes
    members: int
    unknown: int
    out: int
    origin: str
    made: Stamp
    last_attempt: int
    """The last attempt of the ledger that it includes."""
    lifted: Sequence[Mapping[str, Any]] = ()
    """The guards that were lifted to take it from a list, by whom and why."""
