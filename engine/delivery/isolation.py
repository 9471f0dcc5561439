"""The search for the uids that the API rejects, and its end where the request itself is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.delivery.outcome import Abort, Decision, Outcome, Rejected, TooLarge
from engine.ledger.records import Settlement
from engine.model.quantity import counted

ALIKE_REFUSALS = 7
"""Refusals before any acceptance that prove the request wrong: a batch, its halves and quarters."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A single uid refused before anything was accepted: it may be bad, or the request."""

    number: int
    """Of its batch."""
    settlement: Settlement
    """What it comes to if the uid is to blame."""
    refusal: Rejected | TooLarge


class Isolation:
    """Bounds the search, and tells bad uids from a bad request; pure bookkeeping.

    A 400 that names nothing, before anything has been accepted, may mean either. The batch is
    halved and halved again; if all four quarters fail too, no uid is to blame. Batches that are
    too small for that are counted one after the other.
    """

    def __init__(self, max_requests: int, *, requests: int = 0, proven: bool = False) -> None:
        self._max_requests = max_requests
        self._requests = requests
        self._refusals = 0
        self._suspects: list[Suspect] = []
        self.proven = proven
        """Whether the API has accepted any batch of this run: the request as such is right."""

    def count_request(self) -> None:
        """Hear that a request was spent on the search."""
        self._requests += 1

    def judge(self, outcome: Rejected, decision: Decision, *, is_news: bool = True) -> Decision:
        """Return `decision`, or an end to the search.

        A refusal of uids that were rejected on an earlier night is no news, and proves nothing.
        """
        if is_news and not outcome.names_members and not self.proven:
            self._refusals += 1
            if self._refusals >= ALIKE_REFUSALS:
                return self.request_is_wrong(outcome)
        if self._requests >= self._max_requests:
            return Abort(
                f"{counted(self._requests, 'request')} went into finding rejected uids, and there "
                "are more",
                "see `cohortsync rejects`; mend the export, or raise retry.max_isolation_requests",
            )
        return decision

    def is_in_doubt(self, outcome: Outcome) -> bool:
        """Say whether a single uid's refusal may be the request's own fault, or a proxy's."""
        match outcome:
            case Rejected(names_members=names_members):
                return not (names_members or self.proven)
            case TooLarge():
                return not self.proven
            case _:
                return False

    def suspect(self, suspect: Suspect) -> Abort | None:
        """Hold a uid in doubt until the next acceptance; return an end if there are too many."""
        self._suspects.append(suspect)
        is_too_many = len(self._suspects) >= ALIKE_REFUSALS
        return self.request_is_wrong(suspect.refusal) if is_too_many else None

    def end(self) -> Abort | None:
        """Hear that nothing is left to send; with uids in doubt, nothing was ever accepted."""
        return self.request_is_wrong(self._suspects[0].refusal) if self._suspects else None

    def prove(self) -> Sequence[Suspect]:
        """Hear of an acceptance: the request is right, and the suspects, returned, are to blame."""
        self.proven = True
        suspects, self._suspects = self._suspects, []
        return suspects

    @staticmethod
    def request_is_wrong(refusal: Rejected | TooLarge) -> Abort:
        """Say that no uid is to blame."""
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
