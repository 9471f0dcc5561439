"""The slots of a cohort, which others may use while it waits for something outside this process."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.sync.ranked_slots import Slot

LENT_AFTER_SECONDS = 10.0
"""How long a cohort may wait for a block of its export, or a lock, and keep its slots."""


class LendableSlots:
    """The slots that one cohort holds: one to be under way, and one while it is planned.

    A cohort that waits for another process, or for an export that gives nothing (a pipe without a
    writer, a mount that hangs), lends them, so that the next cohort begins. When the wait is over,
    it goes on at once: the number of loans bounds how many cohorts are under way, and so their
    memory. Only a comparison, which takes the whole memory for plans, waits until its slot is back.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._under_way: Slot | None = None
        self._planning: Slot | None = None
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def under_way_in(self, slot: Slot) -> Iterator[None]:
        """Hold the slot of being under way during the block."""
        self._under_way = slot
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def planned_in(self, slot: Slot) -> Iterator[None]:
        """Hold the slot of planning, too, during the block."""
        self._planning = slot
        try:
            yield
        finally:
            self._planning = None

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Lend the slots if the block takes long; may be entered in a thread that reads."""
        self._call(self._begin, what)
        try:
            yield
        finally:
            self._call(self._end)

    async def regain_planning(self) -> None:
        """Wait until the slot of planning is held again, if it was lent."""
        if self._planning is not None:
            await self._planning.regain()

    def release(self) -> None:
        """Release the slot of being under way before the end of its block."""
        if self._under_way is not None:
            self._under_way.release()

    def _call(self, work: Callable[..., None], *arguments: object) -> None:
        # A thread may read on after a stop, when the loop is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work, *arguments)

    def _begin(self, what: str) -> None:
        self._timer = self._loop.call_later(LENT_AFTER_SECONDS, self._lend, what)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._under_way is not None:
            self._under_way.take_back()

    def _lend(self, what: str) -> None:
        held = [slot for slot in (self._under_way, self._planning) if slot is not None]
        lent = [slot.lend() for slot in held]
        if any(lent):
            self._note(f"it waits for {what}; meanwhile another cohort may begin")
