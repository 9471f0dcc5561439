"""One workspace's connection to the server: its ceiling, and the leases of its cohorts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

from engine.clock import Clock
from engine.coordination.ceiling import RETURN_SECONDS, ServerCeiling
from engine.coordination.leases import Lease, Leases, Owner
from engine.coordination.server import Server, ServerAccess, UnreachableError
from engine.coordination.settings import SharedSettings
from engine.errors import CohortSyncError
from engine.model.cohort import CohortKey
from engine.pacing.settings import PacingSettings

START_SECONDS = 5.0
"""How long a process tries to reach the server at its start."""


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What is configured of a server."""

    access: ServerAccess
    settings: SharedSettings


def key_prefix(endpoint: str, workspace: str) -> str:
    """Return how the names of a workspace's keys begin; all are in one slot of a cluster."""
    name = sha256(f"{endpoint}\n{workspace}".encode()).hexdigest()[:32]
    return f"cohortsync:{{{name}}}:"


class Coordination:
    """The ceiling and the leases of a workspace, through one server."""

    def __init__(  # noqa: PLR0913 - the server, the workspace, and who this process is
        self,
        limits: SharedLimits,
        prefix: str,
        pacing: PacingSettings,
        owner: Owner,
        clock: Clock,
        *,
        timeout_seconds: float,
        give_up_seconds: float,
    ) -> None:
        """Connect to nothing yet; see `ServerCeiling` for the last two."""
        self._server = Server(limits.access)
        self._is_needed = limits.settings.shared_down == "stop"
        self.leases = Leases(self._server, prefix, owner, clock)
        self.ceiling = ServerCeiling(
            *(self._server, prefix, pacing, limits.settings),
            *(timeout_seconds, give_up_seconds, clock),
        )
        self.ceiling.returned = self.leases.renew_all
        self.ceiling.before_turn = self.leases.renew_overdue
        self._opening = asyncio.Lock()
        self._is_open = False

    async def open(self, note: Callable[[str], None]) -> None:
        """Join the other processes, once; `note` receives remarks.

        Raises `ConfigError` if the server refuses this process, and `UnreachableError`, unless a
        share of the ceiling is configured for this.
        """
        async with self._opening:
            if self._is_open:
                return
            self.ceiling.note = note
            loop = asyncio.get_running_loop()
            end = loop.time() + START_SECONDS
            while not self._is_open:
                try:
                    await self.ceiling.open()
                except UnreachableError:
                    if loop.time() > end:
                        raise
                    await asyncio.sleep(RETURN_SECONDS)
                else:
                    self._is_open = True

    async def close(self) -> None:
        """Leave the other processes; raises nothing."""
        if self._is_open:
            await self.ceiling.close()
        await self._server.close()

    @asynccontextmanager
    async def leased(
        self,
        key: CohortKey,
        seconds: float,
        stop_reason: Callable[[], str | None],
        waiting: Callable[[str], None],
        lost: Callable[[CohortSyncError], None],
    ) -> AsyncIterator[Lease]:
        """Hold the lease of a cohort during the block; `lost` is called if another one takes it.

        Raises as `Leases.acquire`.
        """
        lease = Lease(self.leases, key, lost)
        try:
            await self.leases.acquire(
                lease, seconds, stop_reason, waiting, is_needed=self._is_needed
            )
            yield lease
        finally:
            await self.leases.release(lease)
