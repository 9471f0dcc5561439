"""The order of the runs that share a ceiling: those of a lower rank send first."""

import asyncio
from collections import Counter


class Ranks:
    """Counts the attempts that wait to be sent, by the rank of their runs.

    A run leaves the ceiling to runs of higher ranks as soon as it has nothing to send.
    """

    def __init__(self) -> None:
        self._queued: Counter[int] = Counter()
        self._changed = asyncio.Event()

    def join(self, rank: int) -> None:
        """Note that an attempt waits to be sent."""
        self._queued[rank] += 1

    def leave(self, rank: int) -> None:
        """Note that an attempt that waited was sent, or is not made."""
        self._queued[rank] -= 1
        if not self._queued[rank]:
            del self._queued[rank]
            self._changed.set()

    async def wait(self, rank: int) -> None:
        """Wait until no attempt of a lower rank waits to be sent."""
        while any(other < rank for other in self._queued):
            self._changed.clear()
            await self._changed.wait()
