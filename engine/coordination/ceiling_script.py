"""The steps of `ceiling.lua`, as one process carries them out; it waits for nothing but answers."""

import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from engine.clock import Clock
from engine.coordination.server import Reply, Server, UnreachableError
from engine.errors import ConfigError
from engine.pacing.settings import PacingSettings

KEYS = ("state", "sends", "ends", "reserved", "open", "accepted", "shortest", "seen")
"""The names of the keys of `ceiling.lua`, in its order."""
MOST_ENTRIES = 64
"""Reservations, and ends, of one step."""


@dataclass(frozen=True, slots=True)
class End:
    """What the server is told of a request; times are seconds of the clock."""

    id: str
    kind: str
    """A `SlotEnd`, or `cancelled` for a reservation; `open` or `past` for one entered again."""
    sent_at: float
    ended_at: float
    detail: float = -1.0
    """Of a 429, its Retry-After; of an open request, the seconds until it counts as ended."""


class CeilingScript:
    """The script for one workspace, and what each of its answers says besides."""

    def __init__(self, server: Server, prefix: str, pacing: PacingSettings, clock: Clock) -> None:
        """`prefix` begins the names of the keys; nothing is sent to the server yet."""
        self._server = server
        self._keys = [f"{prefix}{name}" for name in KEYS]
        self._pacing = pacing
        self._clock = clock
        self._epoch = ""
        """Names the server's record of the workspace; empty before the first step."""
        self.process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.shortest = 0.0
        """The shortest recent round trip of this process, in seconds."""
        self.last_step = 0.0
        """When the last answer came."""
        self.clock_offset_ns = 0
        """How far the server's clock is ahead of this host's wall clock."""
        self.found: int | None = None
        """The ceiling after the last step down due to 429s; None if none is in force."""

    async def step(self, operation: str, *arguments: object, requests: int | None = None) -> Reply:
        """Carry out a step, and return its answer: the kind, the server's time, and values.

        `requests` is the ceiling in force, by default the configured one. Raises `UnreachableError`
        as well once the server has lost its record, and `ServerRefusedError`.
        """
        pacing = self._pacing
        reply = await self._server.run(
            "ceiling",
            self._keys,
            [
                *(operation, self.process, secrets.token_hex(8)),
                *(pacing.most, round(pacing.per_seconds * 1e6)),
                *(pacing.requests if requests is None else requests, *arguments),
            ],
        )
        self.last_step = self._clock.now()
        self.clock_offset_ns = 1000 * int(reply[1]) - self._clock.stamp().utc_ns
        *reply, epoch, found, allowed = reply
        self.found = found if found and allowed < pacing.most else None
        known, self._epoch = self._epoch, epoch.decode()
        if known and known != self._epoch:
            raise UnreachableError(f"{self._server.label} has lost its record")
        return reply

    async def join(self) -> None:
        """Join the other processes; raises `ConfigError` if they have other limits."""
        reply = await self.step("join")
        if reply[0] == b"differs":
            own = f"{self._pacing.most} in {self._pacing.per_seconds:g} s"
            number, window = reply[2].decode().split(" in ")
            raise ConfigError(
                f"other processes at {self._server.label} share a ceiling of {number} in "
                f"{float(window) / 1e6:g} s, and this one is configured with {own}",
                hint="give `limits` the same `requests`, `per_seconds` and `hours` on all hosts",
            )

    async def report(self, operation: str, ends: Sequence[End]) -> None:
        """Carry out `finish` or `leave` with at most `MOST_ENTRIES` ends."""
        now = self._clock.now()
        arguments: list[object] = [round(self.shortest * 1e6), len(ends)]
        for each in ends:
            arguments += [
                *(each.id, each.kind),
                *(round((now - each.sent_at) * 1e6), round((now - each.ended_at) * 1e6)),
                round(each.detail * 1e6),
            ]
        await self.step(operation, *arguments)
