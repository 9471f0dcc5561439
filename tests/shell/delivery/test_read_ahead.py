"""The thread that reads ahead: a few batches, in order, and whatever it fails with."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.delivery.read_ahead import ReadAhead
from engine.errors import SourceError


class Reading:
    """Numbers instead of batches, and how far they were read."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.read = 0
        self._count, self._error = count, error

    def batches(self) -> Iterator[Any]:
        while self.read < self._count:
            self.read += 1
            yield self.read
        if self._error is not None:
            raise self._error


async def woken(event: asyncio.Event, until: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not until():
            await event.wait()
            event.clear()


async def soon(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - the thread sends no signal, and that is tested
            await asyncio.sleep(0.001)


async def take_all(reader: ReadAhead, wake: asyncio.Event) -> list[Any]:
    taken: list[Any] = []

    def drained() -> bool:
        while (batch := reader.take()) is not None:
            taken.append(batch)
        return reader.is_dry

    await woken(wake, drained)
    return taken


async def test_batches_come_in_order_and_then_it_is_dry() -> None:
    wake = asyncio.Event()
    reader = ReadAhead(Reading(500).batches(), wake.set)
    assert not reader.is_dry
    reader.start()
    assert await take_all(reader, wake) == list(range(1, 501))
    assert reader.failure is None


async def test_no_more_is_read_than_there_is_room_for_until_all_of_it_is_taken() -> None:
    reading = Reading(100)
    reader = ReadAhead(reading.batches(), lambda: None, depth=3)
    reader.start()
    await soon(lambda: reading.read == 3)
    await asyncio.sleep(0.05)
    assert reading.read == 3
    for _ in range(2):
        assert reader.take() is not None
    await asyncio.sleep(0.05)
    assert reading.read == 3
    assert reader.take() is not None
    await soon(lambda: reading.read == 6)
    assert not reader.is_dry
    reader.stop()


async def test_only_a_loop_that_found_nothing_is_woken() -> None:
    woken_so_often = 0
    wake = asyncio.Event()

    def count() -> None:
        nonlocal woken_so_often
        woken_so_often += 1
        wake.set()

    reading = Reading(100)
    reader = ReadAhead(reading.batches(), count, depth=5)
    reader.start()
    await soon(lambda: reading.read == 5)
    await asyncio.sleep(0)
    assert woken_so_often == 1
    for _ in range(5):  # The last makes room for five more.
        assert reader.take() is not None
    await soon(lambda: reading.read == 10)
    await asyncio.sleep(0.05)
    assert woken_so_often == 1
    for _ in range(5):
        assert reader.take() is not None
    wake.clear()
    while reader.take() is not None:
        pass
    await asyncio.wait_for(wake.wait(), 30)
    reader.stop()


@pytest.mark.parametrize("error", [SourceError("truncated"), ValueError("a bug"), MemoryError()])
async def test_what_was_read_before_a_failure_is_delivered_first(error: BaseException) -> None:
    wake = asyncio.Event()
    reader = ReadAhead(Reading(10, error).batches(), wake.set)
    reader.start()
    assert await take_all(reader, wake) == list(range(1, 11))
    assert reader.failure is error
    assert reader.ended


async def test_an_empty_export_is_dry_at_once() -> None:
    wake = asyncio.Event()
    reader = ReadAhead(iter(()), wake.set)
    reader.start()
    assert await take_all(reader, wake) == []


async def test_a_stop_ends_the_reading_while_it_waits_for_room() -> None:
    reading = Reading(100)
    reader = ReadAhead(reading.batches(), lambda: None, depth=2)
    reader.start()
    await soon(lambda: reading.read == 2)
    reader.stop()
    await asyncio.to_thread(reader._thread.join, 30)
    assert not reader._thread.is_alive()
    assert reading.read == 2


def test_a_pipe_that_never_ends_keeps_nobody_from_stopping() -> None:
    lets_go = threading.Event()
    made: list[ReadAhead] = []

    def endless() -> Iterator[Any]:
        lets_go.wait()
        yield 1

    async def main() -> None:
        reader = ReadAhead(endless(), lambda: None)
        reader.start()
        made.append(reader)
        reader.stop()

    asyncio.run(main())  # ends although the thread still reads
    [reader] = made
    assert reader._thread.daemon
    lets_go.set()  # what it reads now, it hands to a loop that is closed
    reader._thread.join(30)
    assert not reader._thread.is_alive()
