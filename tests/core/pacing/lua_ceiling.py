"""`ceiling.lua` on a server that is played in this process, with a clock that the test sets."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from fakeredis import FakeStrictRedis

from engine.coordination.ceiling_script import KEYS

SCRIPT = Path(__file__).parents[3] / "engine" / "coordination" / "ceiling.lua"
START = 1_800_000_000.0


@dataclass
class LuaCeiling:
    """The ceiling as one process uses it; times are seconds since the start."""

    requests: int
    per_seconds: float
    name: str = "host:1:a"
    client: FakeStrictRedis = field(default_factory=FakeStrictRedis)
    shortest: float = 0.0

    def __post_init__(self) -> None:
        self._script = self.client.register_script(SCRIPT.read_text(encoding="utf-8"))
        self.client.hset("state", mapping={"epoch": "test", "resumes_at": 0})

    def step(self, now: float, operation: str, *arguments: object) -> list[object]:
        with patch("time.time", lambda: START + now):
            reply: list[object] = self._script(
                keys=KEYS,
                args=[
                    *(operation, self.name, "epoch", self.requests),
                    *(round(self.per_seconds * 1e6), self.requests, *arguments),
                ],
            )
        return reply[:-3]

    def reserve(self, now: float) -> tuple[str, float] | None:
        """Return a reservation and its time; None if the gate is closed."""
        kind, *rest = self.step(now, "reserve", 1)
        if kind != b"reserved":
            return None
        _, name, at = rest
        return name.decode(), at / 1e6 - START

    def start(self, now: float, name: str) -> bytes:
        return self.step(now, "start", name, 5_000_000)[0]

    def finish(
        self, now: float, name: str, kind: str, sent_at: float, detail: float = -1.0
    ) -> None:
        ago = math.ceil((now - sent_at) * 1e6)
        shortest = round(self.shortest * 1e6)
        self.step(now, "finish", shortest, 1, name, kind, ago, 0, round(detail * 1e6))
