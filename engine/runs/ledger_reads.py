"""A ledger that a coroutine reads: it is opened in a thread, since that reads and checks files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def opened_in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter `manager` in a thread, and exit it after the block; a cancellation exits it too."""
    opening = asyncio.ensure_future(asyncio.to_thread(manager.__enter__))
    with ExitStack() as opened:
        try:
            value = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await opening
            opened.push(manager)
            raise
        opened.push(manager)
        yield value
