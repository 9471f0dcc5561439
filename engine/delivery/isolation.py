"""The search for rejected uids, and its end if the request itself is wrong."""

from dataclasses import dataclass, replace

from engine.delivery.decision import Abort, Decision
from engine.delivery.outcome import Outcome, Rejected, TooLarge
from engine.ledger.records import Settlement
from engine.model.quantity import counted

ALIKE_REFUSALS = 7
"""Refusals before any acceptance that show a wrong request: a batch, its halves and quarters."""


@dataclass(frozen=True, slots=True)
class AmbiguousRefusal:
    """A refusal of a single uid before any acceptance: the uid or the request is wrong."""

    number: int
    """The number of its batch."""
    settlement: Settlement
    """The settlement if the uid is wrong."""
    outcome: Rejected | TooLarge


@dataclass(frozen=True, slots=True)
class Isolation:
    """Bounds the search, and distinguishes bad uids from a bad request; methods return new values.

    Before any acceptance, a 400 that names nothing may mean either. The batch is split into halves
    and quarters; if all four quarters fail too, the request is wrong. Refusals of batches that are
    too small for this are counted across batches.
    """

    max_requests: int
    requests: int = 0
    """Requests used for the search, including those of earlier executions."""
    refusals: int = 0
    """Refusals that the request itself may have caused."""
    ambiguous: tuple[AmbiguousRefusal, ...] = ()
    proven: bool = False
    """Whether the API has accepted a batch of this run, so that the request itself is valid."""

    def after_request(self) -> "Isolation":
        """Count a request used for the search."""
        return replace(self, requests=self.requests + 1)

    def after_refusal(
        self, outcome: Rejected, decision: Decision, *, were_rejected: bool = False
    ) -> tuple["Isolation", Decision]:
        """Return the state after a refusal, and `decision` or an `Abort` that ends the search.

        A refusal of uids that `were_rejected` in an earlier run is not counted.
        """
        isolation = self
        if not (were_rejected or outcome.names_members or self.proven):
            isolation = replace(self, refusals=self.refusals + 1)
            if isolation.refusals >= ALIKE_REFUSALS:
                return isolation, request_is_wrong(outcome)
        if self.requests >= self.max_requests:
            return isolation, Abort(
                f"{counted(self.requests, 'request')} went into finding rejected uids, and there "
                "are more",
                "see `cohortsync rejects`; mend the export, or raise retry.max_isolation_requests",
            )
        return isolation, decision

    def is_ambiguous(self, outcome: Outcome) -> bool:
        """Return whether the request or a proxy may have caused the refusal of a single uid."""
        match outcome:
            case Rejected(names_members=names_members):
                return not (names_members or self.proven)
            case TooLarge():
                return not self.proven
            case _:
                return False

    def after_ambiguous(self, refusal: AmbiguousRefusal) -> tuple["Isolation", Abort | None]:
        """Keep a refusal until the next acceptance; return an `Abort` if there are too many."""
        isolation = replace(self, ambiguous=(*self.ambiguous, refusal))
        is_too_many = len(isolation.ambiguous) >= ALIKE_REFUSALS
        return isolation, request_is_wrong(refusal.outcome) if is_too_many else None

    def after_acceptance(self) -> "Isolation":
        """Return the state after an acceptance, which proves that the request is valid.

        The uid of each ambiguous refusal is therefore wrong; the caller settles it as rejected.
        """
        if self.proven and not self.ambiguous:
            return self
        return replace(self, proven=True, ambiguous=())

    def at_end(self) -> Abort | None:
        """Return an `Abort` if ambiguous refusals remain when nothing else is left to send."""
        return request_is_wrong(self.ambiguous[0].outcome) if self.ambiguous else None


def request_is_wrong(refusal: Rejected | TooLarge) -> Abort:
    """Return the `Abort` for a run whose request, not its uids, is wrong."""
    if isinstance(refusal, TooLarge):
        reason = f"the API takes not even a single uid: {refusal.reason}"
        remedy = "look for a proxy on the way that limits the size of requests"
    else:
        reason = f"the API refuses whatever uids are sent: {refusal.reason}"
        remedy = (
            "check partner, cohort id and name; if the first uids may be bad ones, running the "
            "same command again searches on"
        )
    return Abort(reason, f"nothing was written off; {remedy}")
