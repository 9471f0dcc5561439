"""A mirror's plan as the ledger keeps it, and what bears on the next plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.model.cohort import Action, Operation


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """How many uids one operation of a plan has of each kind, in the order of sending."""

    plain: int = 0
    """Uids that may be sent at once; they come first."""
    suspect: int = 0
    """Uids that the API rejected before, tried again; they come behind the plain ones."""
    held: int = 0
    """Uids whose change reverses a recent one, and waits until that has settled; they come last."""
    known: int = 0
    """Uids that the API rejected lately, behind all others in the file; they are not sent."""

    @property
    def planned(self) -> int:
        """All that is to be sent."""
        return self.plain + self.suspect + self.held


@dataclass(frozen=True, slots=True)
class PlanSegment:
    """Uids of an operation that are sent together."""

    operation: Operation
    end: int
    """The place behind the last; they begin where the operation has come to."""
    is_held: bool = False
    """Whether they wait until earlier changes have settled."""
    were_rejected: bool = False
    """Whether the API has rejected them in an earlier run."""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as the ledger keeps it; its uids stand in files."""

    generation: int | None
    """Of the snapshot that it goes on from; None if there was none."""
    first_action: Action
    duplicate: int
    unchanged: int
    operations: Mapping[Operation, OperationCounts]
    resent_through: str | None
    """The member that the round of resending has come to, as the ledger keeps it."""
    exported_utc_ns: int | None
    profile: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]
    allowances: Sequence[Mapping[str, Any]]
    forecast: Mapping[str, Any]
    """What it comes to: requests, bytes, seconds, when it would be done."""

    @property
    def is_blocked(self) -> bool:
        """Whether a guard keeps it from being sent."""
        return any(each["verdict"] == "blocks" for each in self.verdicts)

    @property
    def segments(self) -> Sequence[PlanSegment]:
        """What is sent, in that order: what reverses a recent change comes last."""
        first = Operation(self.first_action)
        order = (
            first,
            Operation.ADD if first is Operation.REMOVE else Operation.REMOVE,
            Operation.RESEND,
        )
        counts = [(operation, self.operations[operation]) for operation in order]
        at_once = [
            segment
            for operation, count in counts
            for segment in (
                PlanSegment(operation, count.plain),
                PlanSegment(operation, count.plain + count.suspect, were_rejected=True),
            )
        ]
        return at_once + [
            PlanSegment(operation, count.planned, is_held=True) for operation, count in counts
        ]


@dataclass(frozen=True, slots=True)
class LastMirror:
    """The last mirror of a cohort that has sent something, or had nothing to send."""

    cohort_name: str
    cohort_description: str | None
    profile: Mapping[str, Any]
    exported_utc_ns: int | None
    """When the last export of which that is known was written; None if nobody knows."""
    additions_left: int
    """Additions that the guards let pass, and that were not sent to their end."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A uid that the API would not take, and when it last said so."""

    uid: str
    action: Action
    """What it would not do with it."""
    run: int
    utc_ns: int
