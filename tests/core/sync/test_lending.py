import asyncio
import threading
from contextlib import AsyncExitStack

from engine.sync import lending
from engine.sync.lending import LendableSlots
from engine.sync.ranked_slots import RankedSlots


async def test_a_long_wait_in_a_thread_lends_both_slots_until_it_ends(monkeypatch) -> None:
    monkeypatch.setattr(lending, "LENT_AFTER_SECONDS", 0.0)
    under_way, planning = RankedSlots(1, lendable=1), RankedSlots(1, lendable=1)
    ends, notes = threading.Event(), []
    slots = LendableSlots(notes.append)

    def read() -> None:
        with slots.waiting("its export"):
            ends.wait()

    async with asyncio.timeout(5), AsyncExitStack() as held:
        held.callback(ends.set)  # A thread that waits on would keep a failed test from ending.
        slot = await held.enter_async_context(under_way.held(0))
        held.enter_context(slots.under_way_in(slot))
        planned = await held.enter_async_context(planning.held(0))
        held.enter_context(slots.planned_in(planned))
        reading = asyncio.create_task(asyncio.to_thread(read))
        await under_way.acquire(1)  # Only now, as the reader waits.
        await planning.acquire(1)
        assert notes == ["it waits for its export; meanwhile another cohort may begin"]
        comparing = asyncio.create_task(slots.regain_planning())
        ends.set()
        await reading  # It goes on while the borrower holds the slot.
        assert not comparing.done()
        planning.give_back()
        await comparing


async def test_a_wait_that_ends_in_time_lends_nothing() -> None:
    under_way = RankedSlots(1, lendable=1)
    slots = LendableSlots(lambda _: None)
    async with under_way.held(0) as slot:
        with slots.under_way_in(slot):
            with slots.waiting("another process"):
                await asyncio.sleep(0)
            waiting = asyncio.create_task(under_way.acquire(1))
            await asyncio.sleep(0)
            assert not waiting.done()
    await waiting
