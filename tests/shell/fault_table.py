"""The matrix of faults: what a request may meet, and where that leads to.

A range_outcome says what the ledger then holds, what is decided, and what the command exits with.
"""

import email.utils
from collections.abc import Callable
from dataclasses import dataclass, replace

from client_errors import CLIENT_ERRORS, MISTAKES_OF_CONFIGURATION, SYSTEM_ERRORS
from scripted_server import ACCEPT, SUCCESS, Play, Stage, failure

from engine.errors import ExitStatus
from virtual_time import BOOT_UTC_NS, START

DONE, PARTIAL, REFUSED, AGAIN = (
    ExitStatus.ACCEPTED,
    ExitStatus.PARTIAL,
    ExitStatus.REFUSED,
    ExitStatus.INCOMPLETE,
)


@dataclass(frozen=True)
class RangeOutcome:
    """Where a fault leads to."""

    outcome: str | None
    """The attempt's, in the ledger; None if nothing was sent, and no attempt entered."""
    decision: str
    """What becomes of the batch: settled, retried, split; or the run is stopped."""
    at_last: str
    """The same at the last attempt that a batch has."""
    state: str = "open"
    """The batch's, in the ledger."""
    applied: bool = False
    """Whether it may have been applied, by the ledger."""
    once: ExitStatus = DONE
    once_at_last: ExitStatus = DONE
    always: ExitStatus = AGAIN
    """What the command exits with if every request meets this fault."""
    standing: str | None = "pending"
    """Where every uid that was planned then stands; None if some of them were never sent."""


ACCEPTED = RangeOutcome(
    "accepted", "settled", "settled", "accepted", always=DONE, standing="accepted"
)
THROTTLED = RangeOutcome("throttled", "retried", "retried")
THROTTLED_BEFORE_IT = replace(THROTTLED, applied=True, standing="unconfirmed")
NOT_SENT = RangeOutcome(None, "retried", "retried")
UNCONFIRMED = RangeOutcome(
    "unconfirmed",
    "retried",
    "settled",
    applied=True,
    once_at_last=AGAIN,
    standing="unconfirmed",
)
TOO_LARGE = RangeOutcome("too_large", "split", "split", "split", always=REFUSED)
TOO_LARGE_BEFORE_IT = replace(TOO_LARGE, applied=True, standing=None)
BAD_UID_OR_REQUEST = replace(TOO_LARGE, outcome="rejected")
BAD_UID = replace(BAD_UID_OR_REQUEST, always=PARTIAL, standing="rejected")
BAD_REQUEST = RangeOutcome(
    "fatal", "stopped", "stopped", once=REFUSED, once_at_last=REFUSED, always=REFUSED
)
ELSEWHERE = replace(BAD_REQUEST, applied=True, standing="unconfirmed")
MISCONFIGURED = RangeOutcome(
    None,
    "stopped",
    "stopped",
    once=ExitStatus.USAGE,
    once_at_last=ExitStatus.USAGE,
    always=ExitStatus.USAGE,
)


def answer(status: int, body: bytes = b"", **headers: str) -> Play:
    """Return an answer by which nothing has been applied; a 429 is in the API's form."""
    body = body or (failure("Rate Limits Exceeded") if status == 429 else b"")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Play(status, body, named, applied_after=None)


def breaks(stage: Stage, error: Callable[[], Exception] | None = None) -> Play:
    """Return an error at `stage`, or silence."""
    return Play(stage=stage, error=error, applied_after=None)


def date(seconds: float) -> str:
    """Write a moment of the tests' clocks, which show `START` when a push begins."""
    return email.utils.formatdate(BOOT_UTC_NS / 1e9 + seconds, usegmt=True)


HTML = b"<html><body>It works!</body></html>"
ERRORS = CLIENT_ERRORS | SYSTEM_ERRORS
LASTING_ERRORS = {
    name for name, make in ERRORS.items() if isinstance(make(), MISTAKES_OF_CONFIGURATION)
}
"""Those of a proxy that answers no CONNECT, and of a certificate that is not trusted."""

FAULTS: dict[str, tuple[Play, RangeOutcome]] = {
    # The documented answers.
    "200": (ACCEPT, ACCEPTED),
    "400 uid": (answer(400, failure("not valid", "uid")), BAD_UID),
    "400 members": (answer(400, failure("missing", "parameters.members")), BAD_UID),
    "400 unnamed": (answer(400, failure("not valid")), BAD_UID_OR_REQUEST),
    "400 html": (answer(400, HTML), ELSEWHERE),
    "400 action": (answer(400, failure("not valid", "action")), BAD_REQUEST),
    "400 partner": (answer(400, failure("not valid", "partner")), BAD_REQUEST),
    "400 parameters": (answer(400, failure("missing", "parameters")), BAD_REQUEST),
    "400 cohort": (answer(400, failure("missing", "cohort_name")), BAD_REQUEST),
    "400 json": (answer(400, failure("?").replace(b"Error", b"Malformed JSON")), BAD_REQUEST),
    "401": (answer(401, failure("App Secret key mismatch.")), BAD_REQUEST),
    "403": (answer(403, failure("Your account is suspended.")), BAD_REQUEST),
    "413": (answer(413, failure("Payload can not exceed 128KB")), TOO_LARGE),
    "415": (answer(415, failure("Content type is not supported")), BAD_REQUEST),
    "429": (answer(429, failure("Rate Limits Exceeded")), THROTTLED),
    "500": (answer(500, failure("An unexpected error")), UNCONFIRMED),
    "500 applied": (Play(500, failure("An unexpected error")), UNCONFIRMED),
    "500 applied late": (Play(500, b"", applied_after=30.0), UNCONFIRMED),
    # Those of gateways and strangers.
    "502": (answer(502, HTML), UNCONFIRMED),
    "503": (answer(503, b"", Retry_After="5"), UNCONFIRMED),
    "504": (answer(504), UNCONFIRMED),
    "204": (answer(204), UNCONFIRMED),
    "202 success": (answer(202, SUCCESS), UNCONFIRMED),
    "302": (answer(302, b"", Location="https://api.invalid/elsewhere"), ELSEWHERE),
    "308": (answer(308, b"", Location="https://api.invalid/elsewhere"), ELSEWHERE),
    **{f"{status} html": (Play(status, HTML), ELSEWHERE) for status in (404, 405, 407, 409)},
    **{f"{status} html": (Play(status, HTML), UNCONFIRMED) for status in (408, 421, 425, 499)},
    "404 in form": (Play(404, failure("no")), ELSEWHERE),
    "408 in form": (Play(408, failure("no")), UNCONFIRMED),
    **{f"{status} html": (Play(status, HTML), ELSEWHERE) for status in (401, 403, 415)},
    "413 html": (answer(413, HTML), TOO_LARGE_BEFORE_IT),
    "429 html": (answer(429, HTML), THROTTLED_BEFORE_IT),
    # 200s that lie.
    "200 html": (answer(200, HTML), UNCONFIRMED),
    "200 empty": (answer(200), UNCONFIRMED),
    "200 fail": (answer(200, failure("could not be processed")), UNCONFIRMED),
    "200 half": (answer(200, SUCCESS[:-5]), UNCONFIRMED),
    "200 list": (answer(200, b"[" + SUCCESS + b"]"), UNCONFIRMED),
    "200 endless": (answer(200, SUCCESS[:-1] + b',"x":"' + b"x" * 200_000 + b'"}'), UNCONFIRMED),
    # What a 429 asks for; `HOLDS` pins how long that is.
    "429 seconds": (answer(429, Retry_After="7"), THROTTLED),
    "429 decimal": (answer(429, Retry_After="7.5"), THROTTLED),
    "429 date": (answer(429, Retry_After=date(START + 45)), THROTTLED),
    "429 date gone": (answer(429, Retry_After=date(START - 45)), THROTTLED),
    "429 zero": (answer(429, Retry_After="0"), THROTTLED),
    "429 negative": (answer(429, Retry_After="-5"), THROTTLED),
    "429 absurd": (answer(429, Retry_After="99999999999"), THROTTLED),
    "429 absurd date": (answer(429, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), THROTTLED),
    "429 malformed": (answer(429, Retry_After="soon"), THROTTLED),
    "429 nan": (answer(429, Retry_After="nan"), THROTTLED),
    "429 infinite": (answer(429, Retry_After="inf"), THROTTLED),
    "429 reset": (answer(429, x_ratelimit_reset="9"), THROTTLED),
    "429 reset at": (
        answer(429, x_ratelimit_reset=str(BOOT_UTC_NS // 10**9 + START + 45)),
        THROTTLED,
    ),
    # Silence: before anything was sent, before the answer, in the midst of it.
    "no connection in time": (breaks(Stage.CONNECTING), NOT_SENT),
    "no answer in time": (breaks(Stage.WAITING), UNCONFIRMED),
    "no end in time": (breaks(Stage.READING), UNCONFIRMED),
    "no answer in time, applied": (Play(stage=Stage.WAITING), UNCONFIRMED),
    "too late": (Play(seconds=90.0), UNCONFIRMED),
    # Every error of the client, at every stage.
    **{
        f"{e} before": (
            breaks(Stage.CONNECTING, ERRORS[e]),
            MISCONFIGURED if e in LASTING_ERRORS else NOT_SENT,
        )
        for e in ERRORS
    },
    **{f"{e} after": (breaks(Stage.WAITING, ERRORS[e]), UNCONFIRMED) for e in ERRORS},
    **{f"{e} within": (breaks(Stage.READING, ERRORS[e]), UNCONFIRMED) for e in ERRORS},
    "applied, then reset": (
        Play(stage=Stage.WAITING, error=SYSTEM_ERRORS["ECONNRESET"]),
        UNCONFIRMED,
    ),
}

ONE_OF_EACH = [
    *("200", "400 uid", "400 unnamed", "401", "413", "429", "500", "302", "200 html"),
    *("404 html", "408 html", "413 html", "429 html", "ClientHttpProxyError before"),
    *("no connection in time", "no answer in time", "no end in time"),
    *("EPIPE before", "EPIPE after"),
]
"""A fault or two of each range_outcome, and of each way to come by it."""

HOLDS = {
    "429": 1.0,
    "429 html": 1.0,
    "429 seconds": 7.0,
    "429 decimal": 7.5,
    "429 date gone": 0.0,
    "429 zero": 0.0,
    "429 negative": 1.0,
    "429 absurd": 600.0,
    "429 absurd date": 600.0,
    "429 malformed": 1.0,
    "429 nan": 1.0,
    "429 infinite": 1.0,
    "429 reset": 9.0,
}
"""Seconds for which a 429 closes the gate."""
HOLDS_UNTIL = {"429 date": START + 45, "429 reset at": START + 45}
"""The moment until which it does."""
