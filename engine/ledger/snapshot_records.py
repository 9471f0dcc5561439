"""What the ledger keeps of a cohort's snapshots, and of the runs that change them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.clock import Stamp
from engine.model.cohort import Operation


@dataclass(frozen=True, slots=True)
class RangeOutcome:
    """Places of an operation that follow each other, and what may have become of their uids."""

    operation: Operation
    first_uid: int
    uid_count: int
    is_accepted: bool
    """Accepted; otherwise it may have been applied, and nobody knows."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A run whose attempts the snapshot does not know of yet."""

    run: int
    name: str
    last_attempt: int
    folded_attempt: int
    """The last attempt that the snapshot knows of."""


@dataclass(frozen=True, slots=True)
class LastSend:
    """A run that sent something to the cohort, and when it did so last."""

    run: int
    sent: Stamp
    is_followed: bool
    """Whether the cohort's snapshot knows of it."""


@dataclass(frozen=True, slots=True)
class RunUids:
    """A run whose uids may be kept beside the ledger."""

    name: str
    is_needed: bool
    """Whether anything may still ask for them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A snapshot as the ledger keeps it."""

    number: int
    run: int | None
    """The run that led to it; None if a command brought it from elsewhere."""
    file: str | None
    """Its name in the folder of snapshots; None once it has been dropped."""
    digest: bytes
    members: int
    unknown: int
    out: int
    origin: str
    made: Stamp
    last_attempt: int
    """The last attempt of the ledger that it knows of."""
    lifted: Sequence[Mapping[str, Any]] = ()
    """The guards that were lifted to take it from a list, by whom and why."""
