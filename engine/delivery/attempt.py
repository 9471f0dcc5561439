"""Attempts to send batches: each waits in a short queue, is recorded, and is sent."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from engine.cancellation import run_in_thread
from engine.clock import Stamp
from engine.delivery.attempt_conclusion import EndedAttempt
from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.events import Paused
from engine.delivery.intake import Intake
from engine.delivery.outcome import (
    Accepted,
    Exchange,
    NotSent,
    Rejected,
    Throttled,
    TooLarge,
    Unconfirmed,
)
from engine.delivery.work import Work
from engine.pacing.pacer import Turn

QUEUE_LENGTH = 2
"""Most attempts that wait for a turn: while one waits for its slot, the next connects."""
MAX_INTENT_WAIT_SECONDS = 0.1
"""The longest wait of an intent for another entry, to share one commit."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt, from entering the queue to its outcome."""

    work: Work
    began: float
    """Start time, in seconds of the clock."""
    is_queued: bool = True
    is_ranked: bool = False
    """Whether runs of higher ranks wait for it."""
    is_intended: bool = False
    """Whether the intent to send it may be in the ledger."""
    turn: Turn | None = None
    sent: Stamp | None = None

    async def ended(self, exchange: Exchange, ended_utc_ns: int) -> EndedAttempt:
        """Return the ended attempt, with the place of its uid if that was refused.

        A cancellation comes too late: the request has ended, and its outcome is to be recorded.
        """
        place = None
        if isinstance(exchange.outcome, Rejected | TooLarge) and self.work.uid_count == 1:
            finding = asyncio.ensure_future(find_place(self.work))
            while not finding.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([finding])
            place = finding.result()
        return EndedAttempt(exchange, ended_utc_ns, self.sent, place, self.is_intended)


async def find_place(work: Work) -> tuple[str, int]:
    """Return `work.place`; a thread finds it, because it may read a file."""
    return await run_in_thread(lambda: work.place)


@dataclass(slots=True, eq=False)
class AttemptQueue:
    """Carries out attempts; at most `QUEUE_LENGTH` of them wait for their turns."""

    channel: Channel
    run: DeliveredRun
    intake: Intake
    note_sent: Callable[[Work], None]
    """Called immediately before the head of a request is sent."""
    _paused_until: datetime | None = None
    """The end of the last pause that observers were told of."""
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUEUE_LENGTH))

    async def reserve(self) -> None:
        """Wait until the queue has a free place, and reserve it."""
        await self._slots.acquire()

    def release(self) -> None:
        """Release a place that was reserved for an attempt that is not made."""
        self._slots.release()

    def leave(self, attempt: Attempt) -> None:
        """Release the place of an attempt, unless it was released before."""
        if attempt.is_queued:
            attempt.is_queued = False
            self._slots.release()
            if attempt.is_ranked:
                self.channel.ranks.leave(self.run.rank)

    async def carry_out(self, attempt: Attempt) -> Exchange:
        """Send a batch at its turn, and return the result.

        A cancellation after the intent was recorded is returned as an outcome. Other exceptions
        are passed on. However an attempt ends, the pacer receives one report of its turn.
        """
        channel, payload = self.channel, attempt.work.payload
        exchange: Exchange | None = None
        attempt.is_ranked = True
        channel.ranks.join(self.run.rank)
        try:
            await channel.ranks.wait(self.run.rank)
            await channel.pacer.approach(self._note_pause)
            attempt.began = channel.clock.now()  # A wait for the gate is not an outage.
            exchange = await channel.transport.send(payload, lambda: self._take_turn(attempt))
        except asyncio.CancelledError:
            if not attempt.is_intended:
                raise
            exchange = Exchange(
                Unconfirmed("stopped while under way")
                if attempt.turn
                else NotSent("stopped before its turn", is_kept_back=True)
            )
        finally:
            if attempt.turn is not None:
                self._report(attempt.turn, exchange)
        return exchange

    async def _take_turn(self, attempt: Attempt) -> None:
        """Record the intent and wait for the turn; the first byte is sent right after this."""
        channel, run, work = self.channel, self.run, attempt.work
        work.attempts += 1
        attempt.is_intended = True
        registrations = self.intake.registrations()
        # If another attempt is ahead in the queue, this one has time until that one is sent.
        slack = channel.pacer.slot_seconds / 2 if self._slots.locked() else 0.0
        max_wait = min(slack, MAX_INTENT_WAIT_SECONDS)
        await channel.ledger.intend(run.state, registrations, work.number, work.attempts, max_wait)
        self.intake.note_registered(registrations)
        attempt.turn = await channel.pacer.take_turn(self._note_pause)
        run.budget.send(attempt.turn.sent_at)
        attempt.sent = channel.clock.stamp()
        self.leave(attempt)
        self.note_sent(work)

    def _note_pause(self, until: datetime) -> None:
        """Tell observers of a pause, once."""
        if until != self._paused_until:
            self._paused_until = until
            self.run.observe(Paused(until))

    def _report(self, turn: Turn, exchange: Exchange | None) -> None:
        """Report the answer to the pacer: a 429 delays later requests, a probe all of them."""
        pacer, outcome = self.channel.pacer, exchange and exchange.outcome
        if isinstance(outcome, Throttled):
            pacer.throttled(turn, outcome.retry_after)
        elif exchange is not None and exchange.http_status is not None:
            pacer.answered(turn, accepted=isinstance(outcome, Accepted))
        else:
            pacer.unanswered(turn)
