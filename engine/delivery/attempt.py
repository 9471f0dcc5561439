"""One attempt to send a batch: it waits in a short queue for its turn, is recorded, and is sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.clock import Clock, Stamp
from engine.delivery.conclusion import EndedAttempt
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
from engine.delivery.ports import SendLog, Transport
from engine.delivery.work import Work
from engine.ledger.records import RunState
from engine.pacing.pacer import Pacer, Turn

QUEUE_LENGTH = 2
"""Attempts that may wait for a turn: while one waits for its slot, the next connects."""
MAX_INTENT_WAIT_SECONDS = 0.1
"""How long an intent may wait for another entry at the most, to share its commit."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt, from its place in the queue for a turn to its outcome."""

    work: Work
    began: float
    """In seconds of the clock."""
    is_queued: bool = True
    is_intended: bool = False
    """Whether the intent to send it may be in the ledger."""
    turn: Turn | None = None
    sent: Stamp | None = None

    def ended(self, exchange: Exchange, ended_utc_ns: int) -> EndedAttempt:
        """Return the attempt as it ended; finding the place of a refused uid may read a file."""
        is_refused = isinstance(exchange.outcome, Rejected | TooLarge)
        place = self.work.place if is_refused and self.work.uid_count == 1 else None
        return EndedAttempt(exchange, ended_utc_ns, self.sent, place, self.is_intended)


@dataclass(slots=True, eq=False)
class AttemptQueue:
    """Carries out attempts, of which `QUEUE_LENGTH` at a time may wait for their turns."""

    state: RunState
    intake: Intake
    ledger: SendLog
    transport: Transport
    pacer: Pacer
    clock: Clock
    note_sent: Callable[[Work], None]
    """Called when the head of a request is about to leave."""
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(QUEUE_LENGTH))

    async def reserve(self) -> None:
        """Wait until another attempt may begin to wait for its turn."""
        await self._slots.acquire()

    def release(self) -> None:
        """Give back a place that was reserved for an attempt which is not made."""
        self._slots.release()

    def leave(self, attempt: Attempt) -> None:
        """Give back the place of an attempt, unless that was done before."""
        if attempt.is_queued:
            attempt.is_queued = False
            self._slots.release()

    async def carry_out(self, attempt: Attempt) -> Exchange:
        """Send a batch once it is its turn; a cancellation becomes an outcome once it is intended.

        Raises what `SendLog.intend` raises.
        """
        payload = attempt.work.payload
        try:
            await self.pacer.approach()
            attempt.began = self.clock.now()  # A wait behind the gate is no outage.
            exchange = await self.transport.send(payload, lambda: self._take_turn(attempt))
        except asyncio.CancelledError:
            if not attempt.is_intended:
                raise
            exchange = Exchange(
                Unconfirmed("stopped while under way")
                if attempt.turn
                else NotSent("stopped before its turn", is_kept_back=True)
            )
        if attempt.turn is not None:
            self._report(attempt.turn, exchange)
        return exchange

    async def _take_turn(self, attempt: Attempt) -> None:
        """Make the intent durable, wait for the turn: the last steps before the first byte."""
        work = attempt.work
        work.attempts += 1
        attempt.is_intended = True
        registrations = self.intake.registrations()
        # While another attempt is ahead in the queue, there is time until that one has left.
        slack = self.pacer.slot_seconds / 2 if self._slots.locked() else 0.0
        max_wait = min(slack, MAX_INTENT_WAIT_SECONDS)
        await self.ledger.intend(self.state, registrations, work.number, work.attempts, max_wait)
        self.intake.note_registered(registrations)
        attempt.turn = await self.pacer.take_turn()
        attempt.sent = self.clock.stamp()
        self.leave(attempt)
        self.note_sent(work)

    def _report(self, turn: Turn, exchange: Exchange) -> None:
        """Let the pacer know what came back, since 429s hold back the requests to come."""
        if isinstance(exchange.outcome, Throttled):
            self.pacer.throttled(turn, exchange.outcome.retry_after)
        elif exchange.http_status is not None:
            self.pacer.answered(turn, accepted=isinstance(exchange.outcome, Accepted))
        else:
            self.pacer.unanswered(turn)
