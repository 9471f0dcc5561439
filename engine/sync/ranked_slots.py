"""A limited number of slots, of which the waiter with the lowest rank gets the next."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count


class RankedSlots:
    """Slots for use within one event loop."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def held(self, rank: int) -> AsyncIterator[Callable[[], None]]:
        """Hold a slot during the block; yield a function that releases it before the end.

        Of those who wait, the one with the lowest rank gets the next free slot, and of equal ranks
        the one that came first.
        """
        await self._acquire(rank)
        is_held = True

        def release() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._release()

        try:
            yield release
        finally:
            release()

    async def _acquire(self, rank: int) -> None:
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release()  # The slot was granted at the time of the cancellation.
            raise

    def _release(self) -> None:
        while self._waiting:
            granted = heapq.heappop(self._waiting)[-1]
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1
