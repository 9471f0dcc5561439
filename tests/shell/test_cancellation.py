"""Work that a cancellation does not leave unfinished."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from engine.cancellation import await_to_end, run_in_thread

PATIENCE_SECONDS = 60.0


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_work_returns_or_raises_what_it_does() -> None:
    async def fail() -> None:
        raise ValueError("no")

    assert await await_to_end(asyncio.sleep(0, "done")) == "done"
    assert await run_in_thread(lambda: 42) == 42
    with pytest.raises(ValueError, match="no"):
        await await_to_end(fail())


@pytest.mark.parametrize("cancellations", [1, 2, 5])
@pytest.mark.parametrize("failure", [None, ValueError("no")])
async def test_a_cancellation_is_raised_when_the_work_has_ended(
    cancellations: int, failure: Exception | None
) -> None:
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    heard: list[int] = []
    waiting = asyncio.create_task(await_to_end(work, lambda: heard.append(1)))
    for _ in range(cancellations):
        await turns()
        waiting.cancel()
    await turns()
    assert not waiting.done()
    assert len(heard) == cancellations
    if failure is None:
        work.set_result(None)
    else:
        work.set_exception(failure)
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert caught.value.__cause__ is failure
    assert waiting.cancelled()


async def test_work_that_was_cancelled_itself_is_over() -> None:
    work = asyncio.create_task(asyncio.sleep(3600))
    waiting = asyncio.create_task(await_to_end(work))
    await turns()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, PATIENCE_SECONDS)


async def test_a_timeout_is_a_timeout_when_the_work_has_ended() -> None:
    release = asyncio.Event()

    async def work() -> None:
        await release.wait()

    async def limited() -> None:
        async with asyncio.timeout(0):
            await await_to_end(work(), release.set)

    with pytest.raises(TimeoutError):
        await limited()


def thread_until(release: threading.Event, begun: threading.Event) -> Callable[[], None]:
    def work() -> None:
        begun.set()
        release.wait(PATIENCE_SECONDS)

    return work


async def test_a_thread_has_ended_when_its_cancellation_is_raised() -> None:
    release, begun = threading.Event(), threading.Event()
    waiting = asyncio.create_task(run_in_thread(thread_until(release, begun)))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    for _ in range(2):
        waiting.cancel()
        await turns()
    assert not waiting.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_loop_that_ends_leaves_no_thread_behind() -> None:
    """At its end a loop cancels every task, whatever it waits for."""
    release, begun = threading.Event(), threading.Event()
    ended: list[bool] = []

    async def hold() -> None:
        try:
            await run_in_thread(thread_until(release, begun), release.set)
        finally:
            ended.append(release.is_set())

    async def main() -> None:
        keep = asyncio.create_task(hold())
        await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
        assert not keep.done()

    asyncio.run(main())
    assert ended == [True]
