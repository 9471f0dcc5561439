"""A mirror's plan as the ledger keeps it, and what affects the next plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.model.cohort import Action, Operation


@dataclass(frozen=True, slots=True)
class OperationCounts:
    """The number of uids of one operation of a plan, by kind, in the order of sending."""

    plain: int = 0
    """Uids that may be sent at once; they are first."""
    suspect: int = 0
    """Uids that the API rejected before, tried again; they follow the plain ones."""
    held: int = 0
    """Uids whose change reverses a recent one and waits until that has settled; they come last."""
    known: int = 0
    """Uids that the API rejected recently, at the end of the file; they are not sent."""

    @property
    def planned(self) -> int:
        """The number of uids to be sent."""
        return self.plain + self.suspect + self.held


@dataclass(frozen=True, slots=True)
class PlanSegment:
    """Uids of an operation that are sent together."""

    operation: Operation
    end: int
    """The position after the last uid; the first position is that of the operation's next uid."""
    is_held: bool = False
    """Whether they wait until earlier changes have settled."""
    were_rejected: bool = False
    """Whether the API has rejected them in an earlier run."""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as the ledger keeps it; its uids are in files."""

    generation: int | None
    """The number of the snapshot that it was compared with; None if there was none."""
    first_action: Action
    duplicate: int
    unchanged: int
    operations: Mapping[Operation, OperationCounts]
    resent_through: str | None
    """The last member of the current round of resending, as the ledger keeps it."""
    exported_utc_ns: int | None
    profile: Mapping[str, Any]
    verdicts: Sequence[Mapping[str, Any]]
    allowances: Sequence[Mapping[str, Any]]
    forecast: Mapping[str, Any]
    """Requests, bytes, seconds, and the estimated time of completion."""

    @property
    def is_blocked(self) -> bool:
        """Whether a guard blocks it."""
        return any(each["verdict"] == "blocks" for each in self.verdicts)

    @property
    def lists_changes(self) -> bool:
        """Whether its export is a list of changes; of earlier versions, none was."""
        return bool(self.forecast.get("lists_changes"))

    @property
    def segments(self) -> Sequence[PlanSegment]:
        """The segments in the order of sending; those that reverse a recent change are last."""
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
    """When the last export with a known time was written; None if no time is known."""
    additions_left: int
    """Additions that the guards passed, and that were not sent completely."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A uid that the API rejected, and the time of the last rejection."""

    uid: str
    action: Action
    """The operation that the API rejected."""
    run: int
    utc_ns: int
