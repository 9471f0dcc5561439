"""One table reads every answer, and every error of the client, as an outcome."""

import email.utils
import math
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import aiohttp
import orjson

from engine.delivery.outcome import (
    Accepted,
    Fatal,
    NotSent,
    Outcome,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
)

_MEMBER_ATTRIBUTES = frozenset({"uid", "uids", "member", "members"})
_REQUEST_ATTRIBUTES = frozenset(
    {"action", "partner", "parameters", "cohort_id", "cohort_name", "cohort_description"}
)
_LONGEST_REASON = 200
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)

_CHECK_HINT = "`cohortsync check` shows what is configured; then run the same command again"
_HINTS = {
    401: f"workspace id and API key do not belong together, or one is wrong; {_CHECK_HINT}",
    403: "the vendor has suspended or blocked the account, which only they can lift; or a gateway "
    "on the way refuses the request",
    415: "something on the way changed the request's Content-Type: look for a proxy",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer means, and what the ledger keeps of it."""

    outcome: Outcome
    request_id: str | None = None


def read_answer(answer: Answer, utc_now: float) -> Reading:
    """Read an answer; `utc_now`, in seconds since 1970, places a Retry-After that is a date."""
    document = _json_object(answer.body)
    error = document.get("error")
    details = error if isinstance(error, dict) else {}
    request_id = details.get("request_id")
    return Reading(
        _outcome(answer, document, details, utc_now),
        request_id if isinstance(request_id, str) else None,
    )


def _outcome(
    answer: Answer, document: dict[str, Any], details: dict[str, Any], utc_now: float
) -> Outcome:
    status = answer.status
    reason = _reason(status, details, ("type", "attribute"))
    detail = _reason(status, details, ("type", "attribute", "message"))
    match status:
        case 200 if document.get("status") == "success":
            return Accepted()
        case 429:
            return Throttled(retry_after(answer.headers, utc_now))
        case 400:
            return _bad_request(details, reason, detail)
        case 413:
            return TooLarge(reason)
        case _ if 300 <= status < 500:  # noqa: PLR2004 - the classes of HTTP's statuses
            hint = _HINTS.get(
                status, f"so the API does not answer: is the endpoint right? {_CHECK_HINT}"
            )
            return Fatal(reason, hint, may_have_been_applied=status < 400)  # noqa: PLR2004 - as above
        case 200:
            return Unconfirmed("200 without the API's success body")
        case _:
            return Unconfirmed(reason)


def _bad_request(details: dict[str, Any], reason: str, detail: str) -> Outcome:
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


def _reason(status: int, details: dict[str, Any], keys: tuple[str, ...]) -> str:
    said = [str(details[key]) for key in keys if details.get(key)]
    text = ": ".join([str(status), *said])[:_LONGEST_REASON]
    return "".join(character if character.isprintable() else "?" for character in text)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def retry_after(headers: Mapping[str, str], utc_now: float) -> float | None:
    """Return the seconds that an answer asks to wait, or None if it says nothing legible.

    Retry-After wins over x-ratelimit-reset; both may be seconds, with decimals, and the former a
    date. x-ratelimit-reset may also be a time since 1970. Never negative; a negative number of
    seconds is malformed, and a date in the past means now.
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
    year_2001 = 1e9  # No wait is that long: beyond it, the number is a time and not a wait.
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
    # HTTP knows no local time; one of its forms of a date names no zone.
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - utc_now


def read_failure(error: BaseException, *, head_left: bool) -> NotSent | Unconfirmed:
    """Read an error of the client; before the head left, nothing can have been applied."""
    reason = _describe(error)
    if head_left:
        return Unconfirmed(reason)
    cause = getattr(error, "os_error", error)
    return NotSent(reason, nobody_listens=isinstance(cause, ConnectionRefusedError))


def _describe(error: BaseException) -> str:
    """Say what went wrong without the error's own text, which may quote a proxy's password."""
    match error:
        case TimeoutError():
            return "timed out"
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return "the server's certificate is not trusted"
        case aiohttp.ClientConnectorSSLError(os_error=ssl.SSLError(reason=reason)):
            return f"TLS failed: {reason}"
        case aiohttp.ClientConnectorDNSError():
            return "the host's name cannot be resolved"
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection"
        case aiohttp.ClientPayloadError():
            return "the answer was cut off"
        case aiohttp.ClientHttpProxyError(status=status):
            return f"the proxy answered {status}"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return f"no connection: {os.strerror(number).lower()}"
        case OSError(strerror=str(text)) if text:
            return f"{type(error).__name__}: {text}"
        case _:
            return type(error).__name__
