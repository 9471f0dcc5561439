"""The right of a run to send: held while it delivers, and released while it waits."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from engine.delivery.channel import DeliveredRun
from engine.delivery.events import Waiting
from engine.delivery.sender import deliver
from engine.delivery.stop import Stop
from engine.ledger.records import OpenBatch, RunState
from engine.model.time_of_day import local_time
from engine.payload.batch import Batch
from engine.payload.limit import Limit
from engine.runs.context import RunContext
from engine.runs.interruptible import wait_or_stop
from engine.runs.ports import Ledger

if TYPE_CHECKING:
    from engine.pacing.pacer import PaceRecord


class RunSender:
    """Delivers the batches of one run; a context manager that releases the right to send."""

    def __init__(self, context: RunContext, ledger: Ledger) -> None:
        self._context = context
        self._ledger = ledger
        self._may_send = False
        self._is_admitted = False
        self.pace: PaceRecord | None = None
        """How the ceiling was used; None if there was nothing to deliver."""

    def __enter__(self) -> Self:
        """Return the sender, which does not hold the right to send yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the right to send."""
        self.release()

    async def acquire(self, wait_seconds: float) -> None:
        """Acquire the right to send, if the run's precedence admits it.

        Raises `LockHeldError` after `wait_seconds`, and what `Precedence.admit` raises.
        """
        if not self._is_admitted:
            await self._context.precedence.admit()
            self._is_admitted = True
        if not self._may_send:
            waiting = self._context.waiting(wait_seconds)
            with self._context.precedence.waiting("another process"):
                await self._context.session.hold_sending(waiting)
            self._may_send = True

    def release(self) -> None:
        """Release the right to send, if it is held."""
        if self._may_send:
            self._may_send = False
            self._context.session.release_sending()

    async def wait_to_settle(self, seconds: float, state: RunState) -> Stop | None:
        """Wait until the API has applied earlier changes; return the stop that came meanwhile.

        Other runs may send during the wait. This run continues after they have ended, without a
        time limit: it has already begun, and a stop ends the wait.
        """
        context = self._context
        if not seconds:
            return await wait_or_stop(0, context.switch)
        self.release()
        now_utc_ns, zone = context.clock.stamp().utc_ns, context.config.sync.time_zone
        until = local_time(now_utc_ns + round(seconds * 1e9), zone)
        context.observer(state)(Waiting(seconds, until))
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
        """Deliver batches cut under `limit`; return the stop that ended it early, or None.

        For a batch in the ledger, only its parts in `open_batches` are delivered. The caller holds
        the right to send.
        """
        context = self._context
        channel = await context.session.channel(self._ledger)
        budget = channel.pacer.open_budget()
        rank = context.precedence.rank
        run = DeliveredRun(state, limit, context.observer(state), budget, open_batches, rank)
        try:
            return await deliver(channel, run, batches, context.switch)
        finally:
            pace = channel.pacer.record(budget)
            self.pace = pace if self.pace is None else self.pace.followed_by(pace)
