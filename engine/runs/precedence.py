"""When a run may plan and send, among other runs of the same session."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass


async def _at_once() -> None:
    """Let the run send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precedence:
    """The place of a run among others; by default it waits for none of them."""

    rank: int = 0
    """Of runs that could send at the same time, the one with the lower rank sends first."""
    planning: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    """Returns what the run holds while it reads and compares an export."""
    admit: Callable[[], Awaitable[None]] = _at_once
    """Is awaited before the first request; raises a `CohortSyncError` to end the run instead."""


FIRST = Precedence()
