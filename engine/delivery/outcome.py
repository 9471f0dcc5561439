"""The outcomes of an attempt: a closed set of values."""

from dataclasses import dataclass

from engine.errors import ExitStatus


@dataclass(frozen=True, slots=True)
class Accepted:
    """200 with the API's own success body; the API confirms acceptance, not application."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: the API counts more requests than its ceiling."""

    retry_after: float | None
    """Seconds that the answer asks to wait; None if it does not specify them."""
    may_have_been_applied: bool = False
    """Whether the answer is not the API's own; its sender may have passed the request on."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request failed before its first byte was sent, so nothing was applied."""

    reason: str
    nobody_listens: bool = False
    """Whether the connection was refused: no server listens there."""
    is_kept_back: bool = False
    """Whether a stop, not an error, ended it before its turn."""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """No conclusive answer: the request may have been applied."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """400 because of the members: the API will never accept this payload."""

    reason: str
    """Without the API's own message, which may quote a uid."""
    names_members: bool
    """Whether the answer names the uid or the members; if not, the whole request may be wrong."""
    detail: str = ""
    """The reason with that message, if any; only for places that store uids."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413: the payload exceeds the limit of the API, or of a gateway before it."""

    reason: str
    may_have_been_applied: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """The run can't continue: further requests would fail in the same way."""

    reason: str
    hint: str
    may_have_been_applied: bool = False
    exit_status: ExitStatus = ExitStatus.REFUSED
    """`USAGE` if the cause is this machine's configuration and nothing reached the API."""


Outcome = Accepted | Throttled | NotSent | Unconfirmed | Rejected | TooLarge | Fatal


@dataclass(frozen=True, slots=True)
class Exchange:
    """The result of one request."""

    outcome: Outcome
    http_status: int | None = None
    """None without a response."""
    request_id: str | None = None


def kind_of(outcome: Outcome) -> str:
    """Return the outcome's name in the ledger and in reports, such as `too_large`."""
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
    """Return the reason of an outcome, or None if it has none."""
    return getattr(outcome, "reason", None)


def may_have_been_applied(outcome: Outcome) -> bool:
    """Return whether the API may have applied this attempt without confirming it."""
    match outcome:
        case Unconfirmed():
            return True
        case Throttled() | TooLarge() | Fatal():
            return outcome.may_have_been_applied
        case _:
            return False
