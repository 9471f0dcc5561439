"""When a run may plan and send, among other runs of the same session."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


async def _at_once() -> None:
    """Let the run go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precedence:
    """The place of a run among others; by default it waits for none of them."""

    rank: int = 0
    """Of runs that could send at the same time, the one with the lower rank sends first."""
    planning: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    """Returns what the run holds while it reads and compares an export."""
    compare: Callable[[], Awaitable[None]] = _at_once
    """Is awaited before the comparison, which takes the whole memory for plans."""
    computing: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    """Returns what the run holds while it makes a snapshot, which takes as much memory again."""
    waiting: Callable[[str], AbstractContextManager[object]] = nullcontext
    """Returns what the run enters while it waits for what the text names, something outside this
    process: others may go on meanwhile. It may be entered in a thread that reads."""
    admit: Callable[[], Awaitable[None]] = _at_once
    """Is awaited before the first request; raises a `CohortSyncError` to end the run instead."""

    def reading(self, blocks: Iterable[T]) -> Iterator[T]:
        """Yield the blocks of an export, in the thread that reads it."""
        coming = iter(blocks)
        while True:
            with self.waiting("its export"):
                block = next(coming, None)
            if block is None:
                return
            yield block


FIRST = Precedence()
