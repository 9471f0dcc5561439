"""What a server knows of a workspace's ceiling now, for `check` and `status`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.coordination.coordination import SharedLimits
from engine.coordination.server import Server
from engine.pacing.settings import PacingSettings

_MOST_SENDS = 100_000
"""Sends that are read at most: those of one window at the largest usual ceiling."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """How many requests one process has sent in the last window."""

    process: str
    requests: int


@dataclass(frozen=True, slots=True)
class CeilingNow:
    """The use of a shared ceiling."""

    server: str
    """Its address, without user and password."""
    version: str
    requests: int
    """The ceiling in force: what is configured, or less if 429s have shown that."""
    held_seconds: float
    """How long the gate is closed; 0 if it is open."""
    processes: Sequence[ProcessUse]
    """Those that have joined, or have sent in the last window; that with most requests first."""
    warning: str | None = None
    """What is wrong with the server's settings."""

    @property
    def used(self) -> int:
        """The requests of the last window."""
        return sum(each.requests for each in self.processes)


async def ceiling_now(limits: SharedLimits, prefix: str, pacing: PacingSettings) -> CeilingNow:
    """Return what the server knows; raises `ConfigError` and `UnreachableError`."""
    server = Server(limits.access)
    try:
        seconds, micros = map(int, await server.ask("TIME"))
        info = await server.ask("INFO")
        names = ("offset", "allowed", "opens_at", "resumes_at")
        state = await server.ask("HMGET", f"{prefix}state", *names)
        offset, allowed, opens_at, resumes_at = (float(each or 0) for each in state)
        now = seconds * 1e6 + micros + offset
        window = pacing.per_seconds * 1e6
        sends = await server.ask(
            *("ZRANGEBYSCORE", f"{prefix}sends", f"{now - window:.0f}", f"{now:.0f}"),
            *("LIMIT", "0", str(_MOST_SENDS)),
        )
        seen = await server.ask("ZRANGE", f"{prefix}seen", "0", "999")
    finally:
        await server.close()
    use = Counter({each.decode(): 0 for each in seen})
    use.update(each.decode().rpartition("/")[0] for each in sends)
    return CeilingNow(
        server.label,
        str(info.get("valkey_version") or info.get("redis_version") or "unknown"),
        min(pacing.requests, max(1, int(allowed))) if allowed else pacing.requests,
        max(0.0, (max(opens_at, resumes_at) - now) / 1e6),
        [ProcessUse(_described(name), count) for name, count in use.most_common()],
        _warning(info),
    )


def _described(process: str) -> str:
    host, pid, _ = process.rsplit(":", 2)
    return f"process {pid} on {host}"


def _warning(info: dict[str, object]) -> str | None:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if info.get("maxmemory") and policy != "noeviction":
        return f"it may evict what is shared (maxmemory-policy {policy}): set noeviction"
    return None
