import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sync.ranked_slots import RankedSlots


@pytest.mark.parametrize("ranks", [[3, 1, 2], [5, 5, 0], []])
async def test_the_lowest_rank_gets_the_next_slot(ranks) -> None:
    slots = RankedSlots(1)
    got: list[int] = []

    async def wait(rank: int) -> None:
        async with slots.held(rank):
            got.append(rank)

    async with slots.held(9):
        tasks = [asyncio.create_task(wait(rank)) for rank in ranks]
        await asyncio.sleep(0)
        assert not got
    for task in tasks:
        await task
    assert got == sorted(ranks)


async def test_an_early_release_is_not_repeated_at_the_end() -> None:
    slots = RankedSlots(1)
    async with slots.held(0) as slot:
        slot.release()
        async with asyncio.timeout(1), slots.held(1):
            slot.release()
            waiting = asyncio.create_task(slots.acquire(2))
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), st.integers(1, 3))
def test_a_cancelled_waiter_loses_no_slot(waiters, count) -> None:
    async def run() -> None:
        slots = RankedSlots(count)
        under_way = most = 0

        async def use(rank: int) -> None:
            nonlocal under_way, most
            async with slots.held(rank):
                under_way += 1
                most = max(most, under_way)
                try:
                    await asyncio.sleep(0)
                finally:
                    under_way -= 1

        tasks = [asyncio.create_task(use(rank)) for rank, _ in waiters]
        await asyncio.sleep(0)
        for task, (_, is_cancelled) in zip(tasks, waiters, strict=True):
            if is_cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= count
        async with asyncio.timeout(1):  # Every slot is free again.
            for _ in range(count):
                await slots.acquire(0)

    asyncio.run(run())


async def test_a_lent_slot_is_taken_back_at_once_and_then_nobody_begins_before_one_is_free() -> (
    None
):
    slots = RankedSlots(1, lendable=1)
    async with asyncio.timeout(1), slots.held(0) as slot:
        assert slot.lend()
        async with slots.held(1) as borrowed:
            assert not borrowed.lend()  # One may be lent at a time.
            slot.take_back()
            waiting = asyncio.create_task(slots.acquire(2))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        slot.release()
        await waiting


async def test_a_lent_slot_is_regained_once_one_is_free() -> None:
    slots = RankedSlots(1, lendable=1)
    async with asyncio.timeout(1), slots.held(0) as slot:
        assert slot.lend()
        async with slots.held(1):
            regaining = asyncio.create_task(slot.regain())
            await asyncio.sleep(0)
            assert not regaining.done()
        await regaining
        assert slot.lend()  # The first loan has ended.


@given(st.lists(st.sampled_from(["lend", "take_back", "release"]), max_size=8))
def test_whatever_is_lent_all_slots_are_free_at_the_end(steps) -> None:
    async def run() -> None:
        slots = RankedSlots(2, lendable=1)
        async with slots.held(0) as one, slots.held(0) as other:
            for number, step in enumerate(steps):
                getattr((one, other)[number % 2], step)()
        async with asyncio.timeout(1), slots.held(0) as one, slots.held(0):
            assert one.lend()
            waiting = asyncio.create_task(slots.acquire(0))
            await asyncio.sleep(0)
            assert waiting.done()
            one.take_back()
            slots.give_back()

    asyncio.run(run())
