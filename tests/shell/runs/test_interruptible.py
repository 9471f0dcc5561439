"""Work that a stop or a cancellation ends: a thread writes only as long as its caller waits."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from engine.delivery.stop import StopSwitch
from engine.errors import IncompleteError
from engine.runs.interruptible import (
    WritePermission,
    acquire_or_stop,
    compute_or_stop,
    read_or_stop,
)
from engine.storage.computation import Interruption

PATIENCE_SECONDS = 60.0


async def test_a_cancelled_computation_has_ended_when_the_cancellation_is_raised() -> None:
    begun, tripped, release = threading.Event(), threading.Event(), threading.Event()
    ended = threading.Event()

    def work(interruption: Interruption) -> None:
        begun.set()
        try:
            while True:
                interruption.check()
        except IncompleteError:
            tripped.set()
            release.wait(PATIENCE_SECONDS)
            ended.set()
            raise

    computing = asyncio.create_task(compute_or_stop(work, StopSwitch()))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    computing.cancel()
    await asyncio.to_thread(tripped.wait, PATIENCE_SECONDS)
    computing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not computing.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await computing
    assert ended.is_set()


class Pipe:
    """Blocks that come one by one, and a thread that writes each of them."""

    def __init__(self) -> None:
        self.more = threading.Semaphore(0)
        self.awaited = threading.Semaphore(0)
        self.writing = threading.Semaphore(0)
        self.written: list[int] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.over = threading.Event()
        self.permission = WritePermission()

    def blocks(self) -> Iterator[int]:
        for number in range(3):
            self.awaited.release()
            self.more.acquire()
            yield number

    def read(self) -> None:
        try:
            with self.permission.held():
                for block in self.permission.released_between(self.blocks()):
                    self.writing.release()
                    self.may_write.wait(PATIENCE_SECONDS)
                    self.written.append(block)
        finally:
            self.over.set()


async def reached(semaphore: threading.Semaphore, times: int = 1) -> None:
    for _ in range(times):
        await asyncio.to_thread(semaphore.acquire, timeout=PATIENCE_SECONDS)


@pytest.fixture(params=["stop", "cancellation"])
def ends_by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def reading(pipe: Pipe, switch: StopSwitch) -> "asyncio.Task[None]":
    return asyncio.create_task(read_or_stop(pipe.read, switch, pipe.permission))


def end(ends_by: str, task: "asyncio.Task[None]", switch: StopSwitch) -> None:
    if ends_by == "stop":
        switch.pull("a signal")
    else:
        task.cancel()


async def test_a_thread_that_waits_for_a_block_is_left_and_writes_no_more(ends_by: str) -> None:
    pipe, switch = Pipe(), StopSwitch()
    task = await reading(pipe, switch)
    pipe.more.release()
    await reached(pipe.awaited, 2)
    end(ends_by, task, switch)
    with pytest.raises((IncompleteError, asyncio.CancelledError)):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert pipe.written == [0]
    pipe.more.release()
    assert await asyncio.to_thread(pipe.over.wait, PATIENCE_SECONDS)
    assert pipe.written == [0]


async def test_a_thread_that_writes_is_awaited(ends_by: str) -> None:
    pipe, switch = Pipe(), StopSwitch()
    pipe.may_write.clear()
    task = await reading(pipe, switch)
    pipe.more.release()
    await reached(pipe.writing)
    end(ends_by, task, switch)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()  # Another one does not end the wait.
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    pipe.may_write.set()
    with pytest.raises((IncompleteError, asyncio.CancelledError)):
        await task
    assert pipe.written == [0]
    pipe.more.release()
    assert await asyncio.to_thread(pipe.over.wait, PATIENCE_SECONDS)
    assert pipe.written == [0]


async def test_a_read_to_its_end_has_written_everything() -> None:
    pipe = Pipe()
    pipe.more.release(3)
    await read_or_stop(pipe.read, StopSwitch(), pipe.permission)
    assert pipe.written == [0, 1, 2]


# A lock that runs of one session take in turn.


async def held_lock() -> asyncio.Lock:
    lock = asyncio.Lock()
    await lock.acquire()
    return lock


async def test_a_stop_ends_the_wait_behind_one_who_is_about_to_get_the_lock() -> None:
    """The lock was just released, and the earlier waiter has not run since."""
    lock, switch = await held_lock(), StopSwitch()
    earlier = asyncio.create_task(acquire_or_stop(lock, StopSwitch()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async def follow_at_once() -> None:
        lock.release()
        assert not lock.locked()
        await acquire_or_stop(lock, switch)

    later = asyncio.create_task(follow_at_once())
    await earlier
    for _ in range(3):
        await asyncio.sleep(0)
    switch.pull("a signal")
    for _ in range(5):
        await asyncio.sleep(0)
    assert later.done()
    assert isinstance(later.exception(), IncompleteError)
    lock.release()


@pytest.mark.parametrize("is_stopped_first", [True, False])
async def test_a_cancellation_and_a_stop_at_once_are_a_cancellation(
    *, is_stopped_first: bool
) -> None:
    lock, switch = await held_lock(), StopSwitch()
    waiting = asyncio.create_task(acquire_or_stop(lock, switch))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ends = [lambda: switch.pull("a signal"), waiting.cancel]
    for end_it in ends if is_stopped_first else reversed(ends):
        end_it()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lock.release()
    await acquire_or_stop(lock, StopSwitch())
    lock.release()


async def test_a_free_lock_is_acquired_even_after_a_stop() -> None:
    """The run then begins, and ends at once with accounts."""
    lock, switch = asyncio.Lock(), StopSwitch()
    switch.pull("a signal")
    await acquire_or_stop(lock, switch)
    with pytest.raises(IncompleteError, match="a signal"):
        await acquire_or_stop(lock, switch)
    lock.release()
    assert not lock.locked()
