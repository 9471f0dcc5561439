"""A process of one host, as far as it shares a ceiling: in this process, in one event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from engine.clock import SystemClock
from engine.coordination.address import Address
from engine.coordination.coordination import Coordination, SharedLimits, key_prefix
from engine.coordination.leases import Owner
from engine.coordination.server import ServerAccess
from engine.coordination.settings import SharedSettings
from engine.pacing.pacer import Pacer, Turn
from engine.pacing.settings import PacingSettings

PREFIX = key_prefix("http://127.0.0.1:1", "W")


@dataclass
class SharedHost:
    """A pacer, and what it shares."""

    coordination: Coordination
    pacer: Pacer
    notes: list[str]
    sent: list[float] = field(default_factory=list)

    async def send(self) -> Turn:
        turn = await self.pacer.take_turn()
        self.sent.append(turn.sent_at)
        return turn

    async def exchange(self, count: int = 1) -> None:
        """Send requests one after another, each with an acceptance."""
        for _ in range(count):
            self.pacer.answered(await self.send(), accepted=True)


@dataclass(frozen=True)
class Hosts:
    """Hosts at one server."""

    url: str
    pacing: PacingSettings
    password: Callable[[], str | None] = lambda: None
    ca_file: str | None = None
    clock: SystemClock = field(default_factory=SystemClock)

    @asynccontextmanager
    async def host(self, name: str, **shared: object) -> AsyncIterator[SharedHost]:
        """Open a host, whose state folder has a name."""
        settings = replace(SharedSettings(self.url), **shared)  # type: ignore[arg-type]
        limits = SharedLimits(
            ServerAccess(Address.parse(self.url)[0], self.password, self.ca_file), settings
        )
        clock = self.clock
        coordination = Coordination(
            *(limits, PREFIX, self.pacing, Owner(name, name, f"process of {name}"), clock),
            timeout_seconds=5.0,
            give_up_seconds=0.5,
        )
        notes: list[str] = []
        try:
            await coordination.open(notes.append)
            pacer = Pacer(self.pacing, clock, slots=coordination.ceiling)
            yield SharedHost(coordination, pacer, notes)
        finally:
            await coordination.close()


def most_in_window(sent: list[float], seconds: float) -> int:
    """Return the most sends in any window."""
    return max((sum(at - seconds < each <= at for each in sent) for at in sent), default=0)


async def together(*work: object) -> None:
    """Wait for coroutines, with a bound."""
    async with asyncio.timeout(20):
        await asyncio.gather(*work)  # type: ignore[call-overload]
