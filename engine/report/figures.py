"""The numbers in the accounts of a run."""

import operator
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class RowCounts:
    """The counts of the rows that were read of the export."""

    read: int = 0
    """The reader's own count."""
    blank: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How many uids or batches have each standing; each number is counted independently."""

    planned: int = 0
    accepted: int = 0
    rejected: int = 0
    unconfirmed: int = 0
    pending: int = 0

    def __add__(self, other: "Standing") -> "Standing":
        return Standing(*map(operator.add, astuple(self), astuple(other)))

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing is counted twice."""
        parts = self.accepted + self.rejected + self.unconfirmed + self.pending
        return self.planned == parts


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that were sent, and the API's responses."""

    sent: int = 0
    accepted: int = 0
    throttled: int = 0
    """Requests answered by a 429."""
    retried: int = 0
    """Requests for a batch that had been sent before."""
    split: int = 0
    """Requests whose answer caused the batch to be halved."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The API's limit: the number of requests in any window, and its length in seconds."""

    requests: int
    per_seconds: float


@dataclass(frozen=True, slots=True)
class CeilingSpending:
    """How the ceiling was used, in requests: `allowed` is the sum of the other fields.

    Counted from each process's first request to its last, and summed over all restarts.
    """

    allowed: float = 0.0
    used: int = 0
    held: float = 0.0
    """A 429 had closed the gate."""
    input: float = 0.0
    """The export was slower than the ceiling."""
    in_flight: float = 0.0
    """All batches in flight waited for slow answers or for their backoff."""
    margin: float = 0.0
    """The window was stretched to allow for network jitter."""
    late: float = 0.0
    """Late wake-ups and connecting; below 0 if more was caught up than was late."""
    unrecorded: float = 0.0
    """Lost by processes that died before they recorded it."""

    def __add__(self, other: "CeilingSpending") -> "CeilingSpending":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return CeilingSpending(*(round(sum(pair), 3) for pair in pairs))


@dataclass(frozen=True, slots=True)
class MirrorFigures:
    """The numbers that are only in the accounts of a mirror."""

    duplicate: int = 0
    """Rows whose uid was in an earlier row."""
    unchanged: int = 0
    """Desired uids that were already members."""
    add: Standing = Standing()
    remove: Standing = Standing()
    resend: Standing = Standing()
    """The unchanged uids that are added again."""
    known_rejects: int = 0
    """Uids that were rejected, or not sent, and had been rejected in an earlier run.

    They do not affect the exit status.
    """
    undecided: int = 0
    """Rows with a uid that were read but not compared, because the run was stopped before."""
    notes: tuple[str, ...] = ()
    """Remarks on the plan for the user."""
