"""Connections that the server closes while a request waits for its turn."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from unittest.mock import AsyncMock, Mock

import pytest
from loopback_server import PAYLOAD, Server, at_once, serving, transport_to

from engine.clock import SystemClock
from engine.delivery.attempt import Attempt, AttemptQueue
from engine.delivery.outcome import Accepted, Exchange, NotSent
from engine.pacing.pacer import Turn
from engine.pacing.ranks import Ranks

if TYPE_CHECKING:
    from engine.delivery.channel import Channel
    from engine.delivery.transport import HttpTransport
    from engine.delivery.work import Work


@dataclass
class PausingPacer:
    """Lets no request pass while it pauses."""

    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    reports: list[str] = field(default_factory=list)
    slot_seconds: float = 0.2

    async def approach(self, _: object) -> None:
        self.waits.set()
        await self.goes_on.wait()

    async def take_turn(self, _: object) -> Turn:
        await self.approach(_)
        return Turn(0.0, is_probe=False)

    def answered(self, _: Turn, *, accepted: bool) -> None:
        self.reports.append("accepted" if accepted else "not accepted")

    def unanswered(self, _: Turn) -> None:
        self.reports.append("unanswered")


def queue_for(pacer: PausingPacer, transport: "HttpTransport") -> AttemptQueue:
    ledger = SimpleNamespace(intend=AsyncMock())
    parts = {"ledger": ledger, "clock": SystemClock(), "pacer": pacer, "transport": transport}
    channel = cast("Channel", SimpleNamespace(ranks=Ranks(), **parts))
    intake = Mock(registrations=list)
    return AttemptQueue(channel, Mock(rank=0), intake, note_sent=lambda _: None)


async def closed_by(server: Server, hang_up: Callable[[asyncio.StreamWriter], None]) -> None:
    """Close the server's connections; return when the client has noticed that."""
    for writer in server.writers:
        hang_up(writer)
    for _ in range(20):
        await asyncio.sleep(0)


def end(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("hang_up", [end, reset])
async def test_a_pause_in_which_the_server_closes_its_connections_costs_no_attempt(
    hang_up: Callable[[asyncio.StreamWriter], None],
) -> None:
    work = cast("Work", SimpleNamespace(payload=PAYLOAD, attempts=0, number=1))
    pacer = PausingPacer()
    async with serving() as server, transport_to(server.port) as transport:
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
        queue = queue_for(pacer, transport)
        await queue.reserve()
        sending = asyncio.create_task(queue.carry_out(Attempt(work, began=0.0)))
        await pacer.waits.wait()
        await closed_by(server, hang_up)
        pacer.goes_on.set()
        assert await sending == Exchange(Accepted(), 200)
        assert server.connections == 2
    assert (work.attempts, pacer.reports) == (1, ["accepted"])


@pytest.mark.parametrize("hang_up", [end, reset])
async def test_a_connection_that_is_closed_before_its_turn_has_sent_nothing(
    hang_up: Callable[[asyncio.StreamWriter], None],
) -> None:
    async with serving() as server, transport_to(server.port) as transport:

        async def take_turn() -> None:
            await server.connected.wait()
            await closed_by(server, hang_up)

        exchange = await transport.send(PAYLOAD, take_turn)
        assert exchange == Exchange(NotSent("the server closed the connection"))
        assert server.received == b""
        assert (await transport.send(PAYLOAD, at_once)).outcome == Accepted()
