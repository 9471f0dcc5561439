"""The emulated endpoint: checks, applies, counts and answers each request, or injects a fault.

The order of the checks is that of a gateway in front of an application: credentials (401, 403), the
rate limit (429), size (413), media type (415), JSON and schema (400). A fault applies only to a
request that passes all checks.
"""

import asyncio
import math
import random
import string
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web

from engine.emulator.access import SINGLE_HEADERS, identify
from engine.emulator.answers import (
    ACCEPTED,
    JSON,
    KEY_MISMATCH,
    LYING,
    NOT_FOUND,
    PARTIAL,
    POISONED,
    POISONED_UNNAMED,
    SERVER_ERROR,
    THROTTLED,
    TOO_LARGE,
    WEB_PAGE,
    WRONG_MEDIA_TYPE,
    WRONG_METHOD,
    Answer,
    Refusal,
    gateway_page,
)
from engine.emulator.cohorts import Cohorts
from engine.emulator.counts import Counts
from engine.emulator.faults import Fault, FaultKind, Faults
from engine.emulator.journal import Journal
from engine.emulator.limiters import Limiter, LimiterDecision, RetryAfter, limiter
from engine.emulator.payload import Payload, read_payload
from engine.emulator.settings import EmulatorSettings
from engine.emulator.wire import read_body, reset, respond, truncate

_REFUSALS: Final = {
    FaultKind.SERVER_ERROR: SERVER_ERROR,
    FaultKind.THROTTLED: THROTTLED,
    FaultKind.TOO_LARGE: TOO_LARGE,
    FaultKind.UNAUTHORIZED: KEY_MISMATCH,
}
_ANSWERS: Final = {
    FaultKind.BAD_GATEWAY: gateway_page(502, "Bad Gateway"),
    FaultKind.UNAVAILABLE: gateway_page(503, "Service Unavailable"),
    FaultKind.GATEWAY_TIMEOUT: gateway_page(504, "Gateway Timeout"),
    FaultKind.PARTIAL: PARTIAL,
    FaultKind.HTML: WEB_PAGE,
    FaultKind.LIE: LYING,
    FaultKind.SLOW: ACCEPTED,
}
_ALPHANUMERIC: Final = string.ascii_letters + string.digits


class Emulator:
    """The API's only endpoint and its state; `server` puts it on a socket."""

    def __init__(
        self,
        settings: EmulatorSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
    ) -> None:
        self.settings = settings
        self._journal = journal
        self._clock = clock
        self._closing = asyncio.Event()
        self._names = random.Random(settings.faults.seed)  # noqa: S311  request ids, not secrets
        self.reset()

    def reset(self) -> None:
        """Delete all state: cohorts, counts, the state of the limits, the number of requests."""
        settings = self.settings
        self._started = self._clock()
        self._limiters: dict[str, Limiter] = {}
        self._faults = Faults(settings.faults)
        self.counts = Counts(settings.limits)
        self.cohorts = Cohorts(known_users=settings.known_users, count_only=settings.count_only)

    def close(self) -> None:
        """End the hanging requests, so that a stop need not wait for them."""
        self._closing.set()

    def report(self) -> dict[str, Any]:
        """Return all counts as JSON values; `members` is None if members are not stored."""
        kept = not self.settings.count_only
        return {
            "emulator": "cohortsync",
            **self.counts.report(),
            "cohorts": [
                {
                    **key._asdict(),
                    "cohort_name": cohort.name,
                    "cohort_description": cohort.description,
                    "members": len(cohort.members) if kept else None,
                    "requests": cohort.requests,
                    "uids_added": cohort.added,
                    "uids_removed": cohort.removed,
                }
                for key, cohort in self.cohorts.all()
            ],
        }

    def members(
        self, cohort_id: str, *, workspace: str | None = None, partner: str | None = None
    ) -> frozenset[str]:
        """Return the members of the only matching cohort; `LookupError` unless just one matches."""
        found = self.cohorts.find(cohort_id, workspace=workspace, partner=partner)
        if len(found) != 1:
            raise LookupError(f"{len(found)} cohorts have the id '{cohort_id}'")
        return frozenset(found[0][1].members)

    async def cohort_sync(self, request: web.Request) -> web.StreamResponse:
        """Handle a POST to the API's address."""
        self.counts.requests += 1
        jitter, fault = self._faults.next()
        if jitter:
            await self._wait(jitter)
        arrived = self._clock() - self._started
        caller, headers = self._admit(request, arrived)
        response = await self._handle(request, caller, headers, fault)
        if self._journal is not None and (isinstance(caller, str) or caller is THROTTLED):
            torn = request.transport is None or request.transport.is_closing()
            self._journal.note(arrived, None if torn else response.status)
        return response

    async def _handle(
        self,
        request: web.Request,
        caller: str | Refusal,
        headers: dict[str, str],
        fault: Fault | None,
    ) -> web.StreamResponse:
        try:
            body = await read_body(request, self.settings.max_bytes)
        except (ConnectionError, web.RequestPayloadError):
            return self._reset(request, "client_gone")
        self.counts.bytes_received += len(body or b"")
        if isinstance(caller, Refusal):
            return await self._refuse(caller, headers)
        payload = self._judge(request, body)
        if isinstance(payload, Refusal):
            return await self._refuse(payload, headers)
        self.counts.uids_received += payload.count
        if fault is not None:
            return await self._fail(request, caller, payload, fault, headers)
        self._apply(caller, payload)
        return await self._answer(ACCEPTED, headers)

    async def wrong_method(self, request: web.Request) -> web.StreamResponse:
        """Handle a request to the API's address that is not a POST."""
        del request
        self.counts.requests += 1
        return await self._refuse(WRONG_METHOD, {"Allow": "POST"})

    async def not_found(self, request: web.Request) -> web.StreamResponse:
        """Handle a request to any other address."""
        del request
        self.counts.requests += 1
        return await self._refuse(NOT_FOUND, {})

    def _admit(self, request: web.Request, now: float) -> tuple[str | Refusal, dict[str, str]]:
        """Return the admitted workspace or a refusal, and the headers of the answer."""
        for name in SINGLE_HEADERS:
            if len(request.headers.getall(name, [])) > 1:
                self.counts.breaches["repeated_header"] += 1
        settings = self.settings
        caller = identify(request.headers, settings.workspaces, settings.blocked)
        if isinstance(caller, Refusal):
            return caller, {}
        self.counts.arrive(caller, now)
        if caller not in self._limiters:
            self._limiters[caller] = limiter(settings.limits)
        decision = self._limiters[caller].arrive(now)
        headers = self._rate_headers(decision)
        if decision.admitted:
            return caller, headers
        return THROTTLED, headers | self._retry_after(decision.wait)

    def _judge(self, request: web.Request, body: bytes | None) -> Payload | Refusal:
        if body is None:
            return TOO_LARGE
        encoded = request.headers.get("Content-Encoding", "identity") != "identity"
        charset = (request.charset or "utf-8").lower()
        if encoded or request.content_type != JSON or charset != "utf-8":
            return WRONG_MEDIA_TYPE
        payload = read_payload(body)
        faults = self.settings.faults
        if isinstance(payload, Refusal) or not faults.poison_uids:
            return payload  # before an object is made for each uid, which is slow
        if faults.poison_uids.isdisjoint(payload.uids()):
            return payload
        return POISONED if faults.name_poison else POISONED_UNNAMED

    def _apply(self, workspace: str, payload: Payload) -> None:
        self.counts.uids_applied += payload.count
        self.cohorts.apply(workspace, payload)

    async def _fail(
        self,
        request: web.Request,
        workspace: str,
        payload: Payload,
        fault: Fault,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """Apply a fault to a valid request."""
        kind = fault.kind
        self.counts.faults[kind] += 1
        if fault.applied:
            self._apply(workspace, payload)
        if kind is FaultKind.RESET:
            return self._reset(request, kind)
        if kind is FaultKind.HANG:
            await self._wait(fault.seconds)
            return self._reset(request, kind)
        if kind is FaultKind.TRUNCATED:
            self.counts.unanswered[kind] += 1
            return await truncate(request)
        if kind is FaultKind.SLOW:
            await self._wait(fault.seconds)
            if not fault.applied:
                self._apply(workspace, payload)
        if kind is FaultKind.THROTTLED:
            headers = headers | self._retry_after(fault.seconds)
        refusal = _REFUSALS.get(kind)
        answer = _ANSWERS[kind] if refusal is None else refusal.answer(self._request_id())
        return await self._answer(answer, headers)

    async def _refuse(self, refusal: Refusal, headers: dict[str, str]) -> web.StreamResponse:
        """Answer an invalid request with a refusal, and count its breach."""
        if refusal.breach is not None:
            self.counts.breaches[refusal.breach] += 1
        return await self._answer(refusal.answer(self._request_id()), headers)

    async def _answer(self, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
        if latency := self._faults.next_latency():
            await self._wait(latency)
        self.counts.statuses[str(answer.status)] += 1
        self.counts.accepted += answer is ACCEPTED
        return respond(answer, headers)

    def _reset(self, request: web.Request, reason: str) -> web.StreamResponse:
        self.counts.unanswered[reason] += 1
        return reset(request)

    async def _wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the emulator closes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def _request_id(self) -> str:
        return "".join(self._names.choices(_ALPHANUMERIC, k=8))

    def _rate_headers(self, decision: LimiterDecision) -> dict[str, str]:
        limits = self.settings.limits
        if not limits.rate_headers:
            return {}
        return {
            "X-RateLimit-Limit": str(limits.requests),
            "X-RateLimit-Remaining": str(decision.remaining),
            "X-RateLimit-Reset": str(math.ceil(decision.wait)),
        }

    def _retry_after(self, seconds: float) -> dict[str, str]:
        match self.settings.limits.retry_after:
            case RetryAfter.NONE:
                return {}
            case RetryAfter.SECONDS:
                return {"Retry-After": str(max(1, math.ceil(seconds)))}
            case RetryAfter.DATE:
                return {"Retry-After": formatdate(math.ceil(time.time() + seconds), usegmt=True)}
