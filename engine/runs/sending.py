"""The right of a run to send: held while it delivers, and given back while it waits."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from engine.delivery.events import Waiting
from engine.delivery.stop import Stop
from engine.ledger.records import OpenBatch, RunState
from engine.payload.batch import Batch
from engine.payload.limit import Limit
from engine.runs.context import RunContext
from engine.runs.interruptible import wait_or_stop
from engine.runs.ports import Ledger

if TYPE_CHECKING:
    from engine.pacing import PaceRecord


class RunSender:
    """Delivers the batches of one run; a context manager that gives the right to send back."""

    def __init__(self, context: RunContext, ledger: Ledger) -> None:
        self._context = context
        self._ledger = ledger
        self._may_send = False
        self.pace: PaceRecord | None = None
        """How the ceiling was used; None if nothing was to be delivered."""

    def __enter__(self) -> Self:
        """Return the sender, which may not send yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the right to send back."""
        self.release()

    async def acquire(self, wait_seconds: float) -> None:
        """Wait for the right to send, unless it is held; raises `LockHeldError` after so long."""
        if not self._may_send:
            await self._context.session.hold_sending(self._context.waiting(wait_seconds))
            self._may_send = True

    def release(self) -> None:
        """Give the right to send back, if it is held."""
        if self._may_send:
            self._may_send = False
            self._context.session.release_sending()

    async def wait_to_settle(self, seconds: float, state: RunState) -> Stop | None:
        """Wait until the API has applied earlier changes; return the stop that came meanwhile.

        Others may send until then. This run goes on when they have ended, however long that takes:
        it is under way, and a stop ends the wait.
        """
        context = self._context
        if not seconds:
            return await wait_or_stop(0, context.switch)
        self.release()
        context.observer(state)(Waiting(seconds))
        stop = await wait_or_stop(seconds, context.switch)
        if stop is None:
            await self.acquire(math.inf)
        return stop

    async def deliver(
        self,
        state: RunState,
        limit: Limit,
        batches: Iterator[Batch],
        open_batches: Sequence[OpenBatch] = (),
    ) -> Stop | None:
        """Deliver batches as `Sender.deliver` does; the right to send is held."""
        channel = await self._context.session.channel(self._ledger)
        sender = self._context.sender(channel, state)
        try:
            return await sender.deliver(state, limit, batches, open_batches)
        finally:
            pace = sender.pace
            self.pace = pace if self.pace is None else self.pace.followed_by(pace)
