"""The search for the uids that the API rejects, and its end where the request itself is wrong."""

from dataclasses import dataclass, replace

from engine.delivery.outcome import Abort, Decision, Outcome, Rejected, TooLarge
from engine.ledger.records import Settlement
from engine.model.quantity import counted

ALIKE_REFUSALS = 7
"""Refusals before any acceptance that prove the request wrong: a batch, its halves and quarters."""


@dataclass(frozen=True, slots=True)
class AmbiguousRefusal:
    """A refusal of a single uid before anything was accepted: it may be wrong, or the request."""

    number: int
    """Of its batch."""
    settlement: Settlement
    """What it comes to if the uid is wrong."""
    outcome: Rejected | TooLarge


@dataclass(frozen=True, slots=True)
class Isolation:
    """Bounds the search, and distinguishes bad uids from a bad request; methods return new values.

    A 400 that names nothing, before anything has been accepted, may mean either. The batch is
    halved and halved again; if all four quarters fail too, no uid is wrong. Batches that are too
    small for that are counted one after the other.
    """

    max_requests: int
    requests: int = 0
    """Requests spent on the search, those of earlier executions included."""
    refusals: int = 0
    """Refusals that may be the request's own fault."""
    ambiguous: tuple[AmbiguousRefusal, ...] = ()
    proven: bool = False
    """Whether the API has accepted any batch of this run: the request as such is right."""

    def after_request(self) -> "Isolation":
        """Count a request that was spent on the search."""
        return replace(self, requests=self.requests + 1)

    def after_refusal(
        self, outcome: Rejected, decision: Decision, *, were_rejected: bool = False
    ) -> tuple["Isolation", Decision]:
        """Return what follows from a refusal: `decision`, or an end to the search.

        A refusal of uids that `were_rejected` in an earlier run proves nothing.
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
        """Say whether a single uid's refusal may be the request's own fault, or a proxy's."""
        match outcome:
            case Rejected(names_members=names_members):
                return not (names_members or self.proven)
            case TooLarge():
                return not self.proven
            case _:
                return False

    def after_ambiguous(self, refusal: AmbiguousRefusal) -> tuple["Isolation", Abort | None]:
        """Keep a refusal until the next acceptance; return an end if there are too many."""
        isolation = replace(self, ambiguous=(*self.ambiguous, refusal))
        is_too_many = len(isolation.ambiguous) >= ALIKE_REFUSALS
        return isolation, request_is_wrong(refusal.outcome) if is_too_many else None

    def after_acceptance(self) -> "Isolation":
        """Return the state after an acceptance, which proves that the request is right.

        So each of the ambiguous refusals is of a wrong uid: they are to be settled as rejected.
        """
        return replace(self, proven=True, ambiguous=())

    def at_end(self) -> Abort | None:
        """Return why a run ends that has nothing left to send but what was refused ambiguously."""
        return request_is_wrong(self.ambiguous[0].outcome) if self.ambiguous else None


def request_is_wrong(refusal: Rejected | TooLarge) -> Abort:
    """Say that no uid is wrong, but the request."""
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
