"""The network and the API, played: what each request meets, and what the cohort then holds.

It plays the part of aiohttp's session, so that everything above a socket is the engine's own. It
knows nothing of the ledger and keeps its own count, which tests compare with the accounts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson

from engine.delivery.transport import Body

SUCCESS = b'{"status":"success","message":"will be processed soon"}'
CONNECTING_SECONDS = 0.01
ANSWER_SECONDS = 0.1


def failure(message: str, attribute: str | None = None) -> bytes:
    """Write an error body as the API does."""
    error = {"message": message, "type": "Error", "request_id": "req-1"}
    named = {"attribute": attribute} if attribute else {}
    return orjson.dumps({"status": "fail", "error": error | named})


class Stage(StrEnum):
    """How far a request gets before something happens to it."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    """The head has left; no byte of an answer has come."""
    READING = "reading"
    """Head and first half of an answer have come."""


@dataclass(frozen=True)
class Play:
    """What one request meets: an answer, unless an error or silence comes first at `stage`."""

    status: int = 200
    body: bytes = SUCCESS
    headers: Mapping[str, str] = field(default_factory=dict)
    stage: Stage | None = None
    error: Callable[[], Exception] | None = None
    """What is raised at `stage`; silence if None."""
    applied_after: float | None = 0.0
    """Seconds after its arrival when the cohort has changed; None if it never does."""
    again_after: float | None = None
    """Seconds after its arrival when it is applied once more; None if it is not."""
    seconds: float = ANSWER_SECONDS
    """Until the answer, or the error that comes in its place."""

    async def trouble(self, stage: Stage, connect_seconds: float | None) -> None:
        """Raise, or fall silent, if this is the stage for it."""
        if stage is not self.stage:
            return
        if self.error is not None:
            raise self.error()
        if stage is Stage.CONNECTING:
            # The one deadline that is the session's own.
            await asyncio.sleep(connect_seconds or 0)
            raise aiohttp.ConnectionTimeoutError
        await asyncio.sleep(1e6)


ACCEPT = Play()


@dataclass(frozen=True)
class Request:
    """What reached the network, or would."""

    number: int
    """Which of all that were begun, from 1."""
    at: float
    """When its head left; until then, when it was begun."""
    action: str
    uids: tuple[str, ...]


@dataclass
class ScriptedServer:
    """One cohort, and the way there."""

    members: set[str] = field(default_factory=set)
    script: Callable[[Request], Play] = lambda _: ACCEPT
    poison: frozenset[str] = frozenset()
    """Uids for which a request is refused, where it would have been taken."""
    most_uids: int = 10**9
    """A request with more is too large."""
    arrived: list[Request] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """Uids of requests by which the cohort has changed, or is going to."""
    watch: Callable[[str, Request], None] = lambda _stage, _request: None
    """Called when a request is begun, `sent`, `arrived` and `answered`, before the next step."""
    _begun: int = 0
    _late: list[tuple[float, Request]] = field(default_factory=list)

    def session(self, timeout: aiohttp.ClientTimeout) -> "Session":
        """Return what stands in for aiohttp's session."""
        return Session(self, timeout.connect)

    def begin(self, data: str) -> tuple[Request, Play]:
        """Take up a request, and decide what it meets."""
        document = orjson.loads(data)
        uids = tuple(member["uid"] for member in document["parameters"]["members"])
        self._begun += 1
        now = asyncio.get_running_loop().time()
        request = Request(self._begun, now, document["action"], uids)
        return request, self._judge(request)

    def _judge(self, request: Request) -> Play:
        play = self.script(request)
        if play.applied_after is None:
            return play
        # Whatever its answer meets on the way back, a request like these is not applied.
        if len(request.uids) > self.most_uids:
            refusal = Play(413, failure("Payload can not exceed 128KB"))
        elif self.poison.intersection(request.uids):
            refusal = Play(400, failure("uid is not valid", "uid"))
        else:
            return play
        return replace(refusal, applied_after=None, stage=play.stage, error=play.error)

    def arrive(self, request: Request, play: Play) -> None:
        """Let a request reach the API."""
        self.arrived.append(request)
        if play.applied_after is not None:
            self.taken.update(request.uids)
            self._late.append((request.at + play.applied_after, request))
            if play.again_after is not None:
                self._late.append((request.at + play.again_after, request))
        self.catch_up(request.at)

    def catch_up(self, until: float = float("inf")) -> None:
        """Change the cohort by what is due."""
        due = sorted((entry for entry in self._late if entry[0] <= until), key=lambda e: e[0])
        self._late = [entry for entry in self._late if entry[0] > until]
        for _, request in due:
            if request.action == "add_members":
                self.members.update(request.uids)
            else:
                self.members.difference_update(request.uids)


class Session:
    """Plays the part of `aiohttp.ClientSession`, as far as the transport uses it."""

    def __init__(self, scripted_server: ScriptedServer, connect_seconds: float | None) -> None:
        self._server = scripted_server
        self._connect_seconds = connect_seconds

    @asynccontextmanager
    async def post(
        self,
        _url: str,
        *,
        data: Body,
        **_options: object,
    ) -> AsyncIterator[Any]:
        """Carry a request there, and its answer back."""
        scripted_server = self._server
        request, play = scripted_server.begin(data.decode())
        scripted_server.watch("begun", request)
        await asyncio.sleep(CONNECTING_SECONDS)
        await play.trouble(Stage.CONNECTING, self._connect_seconds)
        await data.sending.leave(None)
        request = replace(request, at=asyncio.get_running_loop().time())
        scripted_server.watch("sent", request)
        scripted_server.arrive(request, play)
        scripted_server.watch("arrived", request)
        await asyncio.sleep(play.seconds)
        await play.trouble(Stage.WAITING, None)
        yield SimpleNamespace(
            status=play.status,
            headers=play.headers,
            content=SimpleNamespace(iter_any=lambda: _read(play)),
            close=lambda: None,
        )
        scripted_server.watch("answered", request)

    async def close(self) -> None:
        """Close nothing."""


async def _read(play: Play) -> AsyncIterator[bytes]:
    half = len(play.body) // 2
    yield play.body[:half]
    await play.trouble(Stage.READING, None)
    yield play.body[half:]
