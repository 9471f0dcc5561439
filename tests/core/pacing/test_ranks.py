import asyncio

from engine.pacing.ranks import Ranks


async def test_a_higher_rank_waits_until_no_lower_rank_is_queued() -> None:
    ranks = Ranks()
    ranks.join(0)
    ranks.join(0)
    ranks.join(2)
    waiting = asyncio.create_task(ranks.wait(2))
    ranks.leave(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    ranks.leave(0)
    async with asyncio.timeout(1):
        await waiting


async def test_equal_and_lower_ranks_do_not_wait() -> None:
    ranks = Ranks()
    ranks.join(1)
    async with asyncio.timeout(1):
        await ranks.wait(1)
        await ranks.wait(0)
