"""A ledger that a coroutine reads: it is opened in a thread, since that reads and checks files."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import TypeVar

from engine.cancellation import run_in_thread

T = TypeVar("T")


@asynccontextmanager
async def opened_in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter `manager` in a thread, and exit it after the block; a cancellation exits it too."""
    with ExitStack() as opened:
        yield await run_in_thread(lambda: opened.enter_context(manager))
