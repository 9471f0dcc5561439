"""What one attempt came to, and what to do about it: two closed sets of values."""

from dataclasses import dataclass

from engine.errors import ExitStatus
from engine.model.status import BatchState


@dataclass(frozen=True, slots=True)
class Accepted:
    """200 with the API's own success body: accepted, which is all that the API ever claims."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: the ceiling as the API sees it."""

    retry_after: float | None
    """Seconds that the answer asks to wait; None when it does not say."""
    may_have_been_applied: bool = False
    """Whether the answer is not the API's own: what gave it may have passed the request on."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request failed before its first byte left: nothing can have been applied."""

    reason: str
    nobody_listens: bool = False
    """Whether the connection was refused: no server is there at all."""
    is_kept_back: bool = False
    """Whether nothing went wrong, and a stop kept it back before its turn."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """No answer that counts: the request may have been applied."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """400 that concerns the members: this payload will never be accepted."""

    reason: str
    """Without the API's own message, which may quote a uid."""
    names_members: bool
    """Whether the answer names the uid or the members; if not, the whole request may be wrong."""
    detail: str = ""
    """The reason with that message, if there is one: for where uids are kept, and nowhere else."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413: this payload is over the limit that the API goes by, or something before it."""

    reason: str
    may_have_been_applied: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """The run can't go on: more requests would meet the same."""

    reason: str
    hint: str
    may_have_been_applied: bool = False
    exit_status: ExitStatus = ExitStatus.REFUSED
    """`USAGE` where this machine's configuration is to blame, and nothing reached the API."""


Outcome = Accepted | Throttled | NotSent | Unconfirmed | Rejected | TooLarge | Fatal


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one request came to."""

    outcome: Outcome
    http_status: int | None = None
    """None if no response came."""
    request_id: str | None = None


def kind_of(outcome: Outcome) -> str:
    """Return the outcome's name as the ledger and reports have it: `accepted`, `too_large`, …."""
    return _KINDS[type(outcome)]


_KINDS: dict[type[Outcome], str] = {
    Accepted: "accepted",
    Throttled: "throttled",
    NotSent: "not_sent",
    Unconfirmed: "unconfirmed",
    Rejected: "rejected",
    TooLarge: "too_large",
    Fatal: "fatal",
}


def reason_of(outcome: Outcome) -> str | None:
    """Return what the outcome says of its cause."""
    return getattr(outcome, "reason", None)


def may_have_been_applied(outcome: Outcome) -> bool:
    """Say whether the API may hold this attempt's uids without having said so."""
    match outcome:
        case Unconfirmed():
            return True
        case Throttled() | TooLarge() | Fatal():
            return outcome.may_have_been_applied
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Settle:
    """The batch is done with, for this run."""

    state: BatchState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Send the same payload again, no sooner than after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Split:
    """Replace the batch by its halves."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the run."""

    reason: str
    hint: str
    exit_status: ExitStatus = ExitStatus.REFUSED


Decision = Settle | RetryAfter | Split | Abort
