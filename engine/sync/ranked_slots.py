"""A limited number of slots, of which the waiter with the lowest rank gets the next."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from itertools import count


class RankedSlots:
    """Slots for use within one event loop."""

    def __init__(self, slots: int, *, lendable: int = 0) -> None:
        """`lendable`: how many holders may lend their slots at the same time."""
        self._free = slots
        """Negative while holders that had lent their slots are back before the borrowers end."""
        self._lendable = lendable
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def held(self, rank: int) -> AsyncIterator["Slot"]:
        """Hold a slot during the block.

        Of those who wait, the one with the lowest rank gets the next free slot, and of equal ranks
        the one that came first.
        """
        await self.acquire(rank)
        slot = Slot(self, rank)
        try:
            yield slot
        finally:
            slot.release()

    async def acquire(self, rank: int) -> None:
        """Take a slot, which `give_back` gives back."""
        if self._free > 0:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back()  # The slot was granted at the time of the cancellation.
            raise

    def give_back(self) -> None:
        """Free a slot that was taken."""
        self._free += 1
        while self._waiting and self._free > 0:
            granted = heapq.heappop(self._waiting)[-1]
            if not granted.done():
                self._free -= 1
                granted.set_result(None)

    def lend(self) -> bool:
        """Free a slot whose holder comes back; return whether another one may be lent."""
        if not self._lendable:
            return False
        self._lendable -= 1
        self.give_back()
        return True

    def end_loan(self) -> None:
        """Let another holder lend its slot."""
        self._lendable += 1

    def take_back(self) -> None:
        """Take a slot for a holder that had lent its own, even if none is free."""
        self._free -= 1
        self.end_loan()


class _State(Enum):
    HELD = auto()
    LENT = auto()
    RELEASED = auto()


class Slot:
    """A slot of one holder."""

    def __init__(self, slots: RankedSlots, rank: int) -> None:
        self._slots = slots
        self._rank = rank
        self._state = _State.HELD

    def release(self) -> None:
        """Release the slot for good."""
        match self._state:
            case _State.HELD:
                self._slots.give_back()
            case _State.LENT:
                self._slots.end_loan()
            case _State.RELEASED:
                pass
        self._state = _State.RELEASED

    def lend(self) -> bool:
        """Let another one have the slot while this holder waits; return whether it is lent now."""
        if self._state is _State.HELD and self._slots.lend():
            self._state = _State.LENT
            return True
        return False

    def take_back(self) -> None:
        """Go on at once, if the slot was lent; for a time there may be more holders than slots."""
        if self._state is _State.LENT:
            self._slots.take_back()
            self._state = _State.HELD

    async def regain(self) -> None:
        """Wait for a slot, if this one was lent."""
        if self._state is _State.LENT:
            await self._slots.acquire(self._rank)
            self._slots.end_loan()
            self._state = _State.HELD
