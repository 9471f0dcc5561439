"""Work in threads, and work that a cancellation of its caller does not leave unfinished."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
OnCancellation = Callable[[], object]


def _ignore() -> None:
    """Let the work take as long as it takes."""


async def await_to_end(work: Awaitable[T], on_cancellation: OnCancellation = _ignore) -> T:
    """Await `work` to its end, however often the caller is cancelled; then raise the cancellation.

    `on_cancellation` is called at each cancellation; it may make the work end earlier. An error of
    the work is raised, or is the cause of the cancellation that is raised.
    """
    working = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await _end_of(working)
        except asyncio.CancelledError as error:
            cancellation = error
            on_cancellation()
    if cancellation is None:
        return working.result()
    raise cancellation from (None if working.cancelled() else working.exception())


async def _end_of(working: "asyncio.Future[T]") -> None:
    """Wait until `working` is done; a cancellation ends only the wait.

    `asyncio.wait` would take three times as long, twice a request.
    """
    ended = asyncio.get_running_loop().create_future()

    def note(_: "asyncio.Future[T]") -> None:
        if not ended.done():
            ended.set_result(None)

    working.add_done_callback(note)
    try:
        await ended
    finally:
        working.remove_done_callback(note)


async def run_in_thread(work: Callable[[], T], on_cancellation: OnCancellation = _ignore) -> T:
    """Run `work` in a thread, and await its end as `await_to_end` does.

    A thread that writes must have ended when its caller releases the lock under which it writes.
    """
    # Not `asyncio.to_thread`: at its end a loop cancels all tasks, also one that awaits a thread.
    loop = asyncio.get_running_loop()
    return await await_to_end(loop.run_in_executor(None, work), on_cancellation)


async def iterate_in_thread(iterate: Callable[[], Generator[T, None, None]]) -> AsyncIterator[T]:
    """Yield the items of `iterate`; one thread reads them, so the event loop is not blocked."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        items = iterate()
        try:
            while chunk := await loop.run_in_executor(thread, lambda: list(islice(items, _CHUNK))):
                for item in chunk:
                    yield item
        finally:  # SQLite closes a connection only in its own thread.
            await loop.run_in_executor(thread, items.close)


_CHUNK = 1_000
"""The number of items that a thread reads at a time."""
