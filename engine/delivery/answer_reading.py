"""Maps each HTTP answer to an outcome.

Six refusals in the API's own format are known; they mean that the request was not applied. Any
other answer may come from a gateway that has passed the request on, so the request may have been
applied.
"""

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import orjson

from engine.delivery.outcome import (
    Accepted,
    Fatal,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
)
from engine.delivery.secrets import Secrets

_MEMBER_ATTRIBUTES = frozenset({"uid", "uids", "member", "members"})
_REQUEST_ATTRIBUTES = frozenset(
    {"action", "partner", "parameters", "cohort_id", "cohort_name", "cohort_description"}
)
_LONGEST_REASON = 200
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)

_TRIED_AGAIN = frozenset({408, 421, 425, 499})
"""4xx that concern one exchange only: too slow, too early, or on a wrong connection."""

_CHECK_HINT = "`cohortsync check` shows what is configured; then run the same command again"
_HINTS = {
    401: f"workspace id and API key do not belong together, or one is wrong; {_CHECK_HINT}",
    403: "the vendor has suspended or blocked the account, which only they can lift",
    415: "something on the way changed the request's Content-Type: look for a proxy",
}
_GATEWAY_HINT = (
    "this is not the API's own answer: a gateway or proxy before it refuses the request; see what "
    "it wants, then run the same command again"
)
_ELSEWHERE_HINT = f"so the API does not answer: is the endpoint right? {_CHECK_HINT}"
_OF_GATEWAYS = frozenset({400, 401, 402, 403, 407, 414, 415, 431, 451})
"""Statuses that indicate a refusal by a gateway or proxy, not a wrong address."""
_NONE = Secrets()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_early: bool = False
    """Whether it began before the other side had received the whole request."""
    has_more: bool = False
    """Whether more bytes followed it, so that it may not be the answer to this request."""


@dataclass(frozen=True, slots=True)
class AnswerMeaning:
    """The outcome of an answer, and the parts of it that the ledger stores."""

    outcome: Outcome
    request_id: str | None = None
    is_regular: bool = True
    """Whether it is the API's own answer to this request; if not, the connection is closed."""


def read_answer(answer: Answer, utc_now: float, secrets: Secrets = _NONE) -> AnswerMeaning:
    """Return the meaning of an answer.

    `utc_now`, in seconds since 1970, converts a Retry-After date to a wait. Credentials that the
    answer repeats are masked.
    """
    document = _json_object(answer.body)
    error = document.get("error")
    is_refusal = document.get("status") == "fail" and isinstance(error, dict)
    details = error if isinstance(error, dict) and is_refusal else {}
    is_in_place = not (answer.is_early or answer.has_more)
    is_success = answer.status == 200 and document.get("status") == "success"  # noqa: PLR2004 - HTTP's OK
    request_id = details.get("request_id")
    if answer.has_more:
        outcome: Outcome = Unconfirmed(f"{answer.status}, with more behind it than one answer")
    elif is_success:
        early = Unconfirmed("200 before the request was received")
        outcome = Accepted() if is_in_place else early
    else:
        is_known = is_refusal and is_in_place
        outcome = _outcome(answer, _Details(details, secrets), utc_now, is_known=is_known)
    return AnswerMeaning(
        outcome,
        _kept(secrets.mask(request_id)) if isinstance(request_id, str) else None,
        is_regular=is_in_place and (is_success or is_refusal),
    )


@dataclass(frozen=True, slots=True)
class _Details:
    """The error object of an answer, with its credentials masked when read."""

    error: Mapping[str, Any]
    secrets: Secrets

    def reason(self, status: int, *keys: str) -> str:
        """Return the status and the text fields among `keys`, joined to a reason."""
        fields = [self.error.get(key) for key in keys]
        texts = [self.secrets.mask(field) for field in fields if isinstance(field, str) and field]
        return _kept(": ".join([str(status), *texts]))


def _outcome(answer: Answer, details: _Details, utc_now: float, *, is_known: bool) -> Outcome:
    """Return the outcome of a non-acceptance; `is_known`: the API itself refuses the request."""
    status = answer.status
    reason = details.reason(status, "type", "attribute")
    match status:
        case 200:
            return Unconfirmed("200 without the API's success body")
        case 429:
            wait = retry_after(answer.headers, utc_now)
            return Throttled(wait, may_have_been_applied=not is_known)
        case 413:
            return TooLarge(reason, may_have_been_applied=not is_known)
        case 400 if is_known:
            detail = details.reason(status, "type", "attribute", "message")
            return _bad_request(details.error, reason, detail)
        case 401 | 403 | 415 if is_known:
            return Fatal(reason, _HINTS[status])
        case _ if 300 <= status < 500 and status not in _TRIED_AGAIN:  # noqa: PLR2004 - HTTP's classes
            hint = _GATEWAY_HINT if status in _OF_GATEWAYS else _ELSEWHERE_HINT
            text = reason if details.error else f"{reason}, not in the API's own form"
            return Fatal(text, hint, may_have_been_applied=True)
        case _:
            return Unconfirmed(reason)


def _bad_request(details: Mapping[str, Any], reason: str, detail: str) -> Outcome:
    attribute = details.get("attribute")
    named = _names(attribute)
    if named & _MEMBER_ATTRIBUTES:
        return Rejected(reason, names_members=True, detail=detail)
    if named & _REQUEST_ATTRIBUTES or "malformed json" in str(details.get("type", "")).lower():
        return Fatal(
            reason, f"the request itself is wrong: check partner and cohort; {_CHECK_HINT}"
        )
    return Rejected(reason, names_members=False, detail=detail)


def _names(attribute: object) -> set[str]:
    """Return the field names in an attribute such as `parameters.members[3].uid`."""
    if not isinstance(attribute, str):
        return set()
    names = attribute.lower().replace("[", ".").replace("]", "").split(".")
    return set(names)


def _kept(text: str) -> str:
    """Return foreign text as it may be kept: one short line without control characters."""
    short = text[:_LONGEST_REASON]
    return "".join(character if character.isprintable() else "?" for character in short)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def retry_after(headers: Mapping[str, str], utc_now: float) -> float | None:
    """Return the seconds that an answer asks to wait, or None without a valid header.

    Retry-After takes precedence over x-ratelimit-reset. Both may be seconds with decimals;
    Retry-After may be a date, and x-ratelimit-reset seconds since 1970. The result is never
    negative: a negative number of seconds is malformed, and a date in the past means 0.
    """
    said = headers.get("Retry-After")
    if said is not None:
        seconds = _decimal(said)
        if seconds is None:
            seconds = _seconds_until(said, utc_now)
        if seconds is not None:
            return max(0.0, seconds)
    reset = _decimal(headers.get("x-ratelimit-reset", ""))
    if reset is None:
        return None
    year_2001 = 1e9  # A larger number is a time since 1970, not a wait.
    return max(0.0, reset - utc_now if reset > year_2001 else reset)


def _decimal(text: str) -> float | None:
    digits = text.strip()
    seconds = float(digits) if _SECONDS.fullmatch(digits) else math.inf
    return seconds if math.isfinite(seconds) else None


def _seconds_until(date: str, utc_now: float) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    # HTTP dates are in UTC; one of the date formats has no zone.
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - utc_now
