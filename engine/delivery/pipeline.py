"""The way from batches to outcomes: what is sent next, and what becomes of it.

One coroutine picks the work; a task carries each request. Every stop is a drain: intake stops,
requests under way end or time out, their outcomes are recorded; a second stop cancels them.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from engine.clock import Clock, Stamp
from engine.delivery.events import Answered, Divided, Observer, Planned, Sent, Settled, Stopping
from engine.delivery.intake import Intake
from engine.delivery.isolation import Isolation, Suspect
from engine.delivery.outage import Outage
from engine.delivery.outcome import (
    Abort,
    Accepted,
    Decision,
    NotSent,
    Outcome,
    Rejected,
    RetryAfter,
    Settle,
    Split,
    Throttled,
    TooLarge,
    Unconfirmed,
    kind_of,
    may_have_been_applied,
    reason_of,
)
from engine.delivery.ports import Reader, SendLog, Transport
from engine.delivery.retry import RetrySettings, decide
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import Stop
from engine.delivery.transport import Exchange
from engine.delivery.work import Work
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.records import (
    AttemptResult,
    Division,
    OpenBatch,
    RunState,
    Settlement,
)
from engine.model.status import BatchState
from engine.pacing import Cause, Pacer, Turn
from engine.payload.batch import Batch, Limit

LINE = 2
"""Requests that may stand in line for a turn: while one waits for its slot, the next connects."""
MOST_PATIENCE_SECONDS = 0.1
"""How long an intent may wait for another entry at the most, to share its commit."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One attempt, from its place in line to its outcome."""

    work: Work
    began: float
    in_line: bool = True
    is_intended: bool = False
    turn: Turn | None = None
    sent: Stamp | None = None


class Delivery:
    """Delivers one run's batches; made and run inside one event loop."""

    def __init__(  # noqa: PLR0913 - the parts of the pipeline, each used as it is
        self,
        state: RunState,
        open_batches: Sequence[OpenBatch],
        reader: Callable[[Callable[[], None]], Reader],
        limit: Limit,
        *,
        transport: Transport,
        pacer: Pacer,
        ledger: SendLog,
        clock: Clock,
        settings: DeliverySettings,
        retry: RetrySettings,
        jitter: Callable[[], float],
        observe: Observer,
        nobody_listens_hint: str | None = None,
    ) -> None:
        """Take the parts: `reader` makes one, given what wakes this delivery.

        With `nobody_listens_hint`, a connection refused before any answer ends the run at once.
        """
        self._state = state
        self._intake = Intake(state.next_batch, open_batches, limit, state.largest_accepted)
        self._limit = limit
        self._transport = transport
        self._pacer = pacer
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._retry = retry
        self._jitter = jitter
        self._observe = observe
        self._outage = Outage(retry, nobody_listens_hint)
        self._isolation = Isolation(
            retry.max_isolation_requests,
            requests=state.isolation_requests,
            proven=state.largest_accepted > 0,
        )
        self._wake = asyncio.Event()
        self._reader = reader(self._wake.set)
        self._again: list[tuple[float, int, Work]] = []
        self._flights: dict[asyncio.Task[None], _Flight] = {}
        self._line = asyncio.Semaphore(LINE)
        self._unsettled = 0
        self._stop: Stop | None = None
        self._bug: BaseException | None = None

    async def run(self) -> Stop | None:
        """Deliver until everything is settled, or something stops it; return what did."""
        self._reader.start()
        try:
            while (work := await self._next_work()) is not None:
                await self._line.acquire()
                self._launch(work)
        except CohortSyncError as error:
            self.stop(Stop.of(error))
        except BaseException:  # Whoever calls has cancelled it, or it is our bug.
            self.stop(Stop(ExitStatus.INCOMPLETE, "cancelled"))
            self._cancel(lambda _: True)
            await self._drain()
            raise
        finally:
            self._reader.stop()
        await self._drain()
        if self._bug is not None:
            raise self._bug
        return self._stop

    def stop(self, stop: Stop) -> None:
        """Stop intake and let requests under way end; if that was done already, cancel them."""
        if self._stop is None:
            self._stop = stop
            self._observe(Stopping(stop.reason))
            self._cancel(lambda flight: flight.turn is None)
        else:
            self._cancel(lambda _: True)
        self._wake.set()

    def _cancel(self, which: Callable[[_Flight], bool]) -> None:
        for task, flight in self._flights.items():
            if which(flight):
                task.cancel()

    async def _drain(self) -> None:
        if not self._flights:
            return
        _, late = await asyncio.wait(
            self._flights, timeout=self._settings.drain_seconds if self._stop else None
        )
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _next_work(self) -> Work | None:
        while self._stop is None:
            self._wake.clear()
            now = self._clock.now()
            # Until the API has accepted something, requests go one by one: a wrong key costs one.
            may_send = self._isolation.proven or not self._flights
            if may_send and self._again and self._again[0][0] <= now:
                work = heapq.heappop(self._again)[2]
                if not self._intake.is_too_large(work):
                    return work
                await self._cut_down(work)
                continue
            if self._may_admit() and (batch := self._reader.take()) is not None:
                self._admit(batch)
                continue
            if self._reader.is_dry and self._unsettled == 0:
                self._end_of_export()
                return None
            idle = Cause.INPUT if self._may_admit() and not self._reader.is_dry else Cause.IN_FLIGHT
            await self._sleep(self._again[0][0] - now if may_send and self._again else None)
            self._pacer.budget.wait(idle, self._clock.now() - now)
        return None

    def _may_admit(self) -> bool:
        most = self._settings.max_in_flight if self._isolation.proven else 1
        return self._unsettled < most

    async def _sleep(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _end_of_export(self) -> None:
        if isinstance(self._reader.failure, CohortSyncError):
            raise self._reader.failure
        if self._reader.failure is not None:
            self._bug = self._reader.failure
        elif (abort := self._isolation.end()) is not None:
            self.stop(Stop(ExitStatus.REFUSED, abort.reason, abort.hint))

    def _admit(self, batch: Batch) -> None:
        for work in self._intake.works_of(batch):
            self._observe(Planned(work.uid_count))
            self._enqueue(work)

    async def _cut_down(self, work: Work) -> None:
        """Deal with a batch that is known to be too large without asking the API."""
        registrations = self._intake.registrations()
        if work.uid_count > 1:
            reason = "larger than the limit in force"
            halves, division = self._intake.divide(work, isolated=False, reason=reason)
            await self._ledger.change(self._state, registrations, work.number, division)
            self._intake.note_registered(registrations)
            self._replace(work, halves, reason)
        else:
            reason = f"fits into no payload of {self._limit.configured_bytes} bytes"
            settlement = Settlement(BatchState.REJECTED, reason, work.rejection(reason, None))
            await self._ledger.change(self._state, registrations, work.number, settlement)
            self._intake.note_registered(registrations)
            self._unsettled -= 1
            self._observe(Settled(work.number, BatchState.REJECTED, 1, reason))

    def _enqueue(self, work: Work, delay: float = 0.0) -> None:
        self._unsettled += 1
        self._retry_later(work, delay)

    def _retry_later(self, work: Work, delay: float) -> None:
        heapq.heappush(self._again, (self._clock.now() + delay, work.number, work))
        self._wake.set()

    # One attempt.

    def _launch(self, work: Work) -> None:
        if self._stop is not None:
            self._line.release()
            return
        flight = _Flight(work, self._clock.now())
        task = asyncio.create_task(self._fly(flight))
        self._flights[task] = flight
        task.add_done_callback(self._land)

    def _land(self, task: asyncio.Task[None]) -> None:
        self._leave_line(self._flights.pop(task))
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, CohortSyncError):
                self._bug = error
                error = CohortSyncError("an unforeseen error")
            self.stop(Stop.of(error))

    async def _fly(self, flight: _Flight) -> None:
        work = flight.work
        try:
            await self._pacer.approach()
            flight.began = self._clock.now()  # A wait behind the gate is no outage.
            exchange = await self._transport.send(work.payload, lambda: self._leave(flight))
        except asyncio.CancelledError:
            if not flight.is_intended:
                raise
            exchange = Exchange(
                Unconfirmed("stopped while under way")
                if flight.turn
                else NotSent("stopped before its turn", is_kept_back=True)
            )
        self._tell_pacer(flight, exchange)
        await self._conclude(flight, exchange)

    async def _leave(self, flight: _Flight) -> None:
        """Make the intent durable, wait for the turn: the last steps before the first byte."""
        work = flight.work
        work.attempts += 1
        flight.is_intended = True
        registrations = self._intake.registrations()
        # Who stands behind another has time until that one has left.
        slack = self._pacer.slot_seconds / 2 if self._line.locked() else 0.0
        patience = min(slack, MOST_PATIENCE_SECONDS)
        await self._ledger.intend(self._state, registrations, work.number, work.attempts, patience)
        self._intake.note_registered(registrations)
        flight.turn = await self._pacer.take_turn()
        flight.sent = self._clock.stamp()
        if work.isolated:
            self._isolation.count_request()
        self._leave_line(flight)
        self._observe(Sent(work.number, work.attempts, len(work.payload)))

    def _leave_line(self, flight: _Flight) -> None:
        if flight.in_line:
            flight.in_line = False
            self._line.release()

    def _tell_pacer(self, flight: _Flight, exchange: Exchange) -> None:
        if flight.turn is None:
            return
        if isinstance(exchange.outcome, Throttled):
            self._pacer.throttled(flight.turn, exchange.outcome.retry_after)
        elif exchange.http_status is not None:
            self._pacer.answered(flight.turn, accepted=isinstance(exchange.outcome, Accepted))
        else:
            self._pacer.unanswered(flight.turn)

    # What becomes of it.

    async def _conclude(self, flight: _Flight, exchange: Exchange) -> None:
        work, outcome = flight.work, exchange.outcome
        now = self._clock.now()
        began = flight.turn.sent_at if flight.turn else flight.began
        gone = self._outage.judge(exchange, began, now)
        if gone is not None and self._stop is None:
            self.stop(Stop(gone.exit_status, gone.reason, gone.hint))
        is_size_independent = isinstance(outcome, TooLarge) and self._intake.is_size_independent(
            work
        )
        if is_size_independent or isinstance(outcome, NotSent | Unconfirmed):
            work.failures += 1
        decision = decide(
            outcome,
            uid_count=work.uid_count,
            failures=max(work.failures, 1),
            jitter=self._jitter(),
            settings=self._retry,
            is_size_independent=is_size_independent,
        )
        if isinstance(outcome, Rejected):
            decision = self._isolation.judge(outcome, decision, is_news=not work.root.were_rejected)
        change, halves = self._change(work, exchange, decision)
        suspect = self._suspect_of(work, change, outcome)
        if flight.is_intended:
            verdict = AttemptResult(
                outcome=kind_of(outcome),
                may_have_been_applied=may_have_been_applied(outcome),
                sent=None if isinstance(outcome, NotSent) else flight.sent,
                ended_utc_ns=self._clock.stamp().utc_ns,
                http_status=exchange.http_status,
                request_id=exchange.request_id,
                reason=reason_of(outcome),
                retry_after=outcome.retry_after if isinstance(outcome, Throttled) else None,
            )
            await self._ledger.conclude(
                self._state, work.number, work.attempts, verdict, None if suspect else change
            )
        self._observe(Answered(work.number, work.attempts, outcome, now - began))
        if suspect is None:
            await self._act(work, decision, halves)
            return
        # Whether this uid or the whole request is wrong, the next acceptance tells.
        self._unsettled -= 1
        if (abort := self._isolation.suspect(suspect)) is not None:
            await self._act(work, abort, ())

    def _suspect_of(
        self, work: Work, change: Settlement | Division | None, outcome: Outcome
    ) -> Suspect | None:
        if (
            isinstance(change, Settlement)
            and isinstance(outcome, Rejected | TooLarge)
            and not work.root.were_rejected
            and self._isolation.is_in_doubt(outcome)
        ):
            return Suspect(work.number, change, outcome)
        return None

    def _change(
        self, work: Work, exchange: Exchange, decision: Decision
    ) -> tuple[Settlement | Division | None, Sequence[Work]]:
        match decision:
            case Settle(BatchState.REJECTED, reason):
                detail = exchange.outcome.detail if isinstance(exchange.outcome, Rejected) else None
                rejection = work.rejection(detail or reason or "", exchange.request_id)
                return Settlement(BatchState.REJECTED, reason, rejection), ()
            case Settle(state, reason):
                return Settlement(state, reason), ()
            case Split():
                halves, division = self._intake.divide(
                    work,
                    isolated=isinstance(exchange.outcome, Rejected),
                    reason=reason_of(exchange.outcome) or "",
                )
                if isinstance(exchange.outcome, TooLarge):
                    larger = max(len(half.payload) for half in halves)
                    self._intake.lower_limit(len(work.payload), larger)
                return division, halves
            case RetryAfter() | Abort():
                return None, ()

    async def _act(self, work: Work, decision: Decision, halves: Sequence[Work]) -> None:
        match decision:
            case Settle(state, reason):
                self._unsettled -= 1
                if state is BatchState.ACCEPTED:
                    self._intake.note_accepted(len(work.payload))
                    await self._trust_request()
                self._observe(Settled(work.number, state, work.uid_count, reason))
            case RetryAfter(seconds):
                self._retry_later(work, seconds)
            case Split():
                self._replace(work, halves, "the API refused it as a whole")
            case Abort(reason, hint, exit_status):
                if self._stop is None:
                    self.stop(Stop(exit_status, reason, hint))

    async def _trust_request(self) -> None:
        """After an acceptance the request is known to be right: the suspects are to blame."""
        for suspect in self._isolation.prove():
            settlement = suspect.settlement
            await self._ledger.change(self._state, (), suspect.number, settlement)
            self._observe(Settled(suspect.number, settlement.state, 1, settlement.reason))

    def _replace(self, work: Work, halves: Sequence[Work], reason: str) -> None:
        self._unsettled -= 1
        for half in halves:
            self._enqueue(half)
        self._observe(Divided(work.number, reason))
