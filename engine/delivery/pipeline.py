"""The way from batches to outcomes: what is sent next, and what it leads to.

One coroutine picks the work; a task carries each request. Every stop is a drain: intake stops,
requests under way end or time out, their outcomes are recorded; a second stop cancels them.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from contextlib import suppress

from engine.delivery.attempt import Attempt, AttemptQueue, find_place
from engine.delivery.attempt_conclusion import (
    AwaitAcceptance,
    Circumstances,
    Conclusion,
    EndedAttempt,
    NextStep,
    Replace,
    conclude,
)
from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.decision import Abort, RetryAfter, Settle
from engine.delivery.events import Answered, Divided, Planned, Sent, Settled, Stopping
from engine.delivery.intake import Intake
from engine.delivery.isolation import Isolation
from engine.delivery.outage import Outage
from engine.delivery.outcome import Exchange, TooLarge
from engine.delivery.ports import Reader
from engine.delivery.stop import Stop
from engine.delivery.work import Work, divide
from engine.errors import CohortSyncError, ExitStatus
from engine.ledger.records import Division, Settlement
from engine.model.status import BatchState
from engine.pacing.budget import Cause
from engine.payload.batch import Batch


class Delivery:
    """Delivers one run's batches; made and run inside one event loop."""

    def __init__(
        self,
        channel: Channel,
        run: DeliveredRun,
        reader: Callable[[Callable[[], None]], Reader],
        jitter: Callable[[], float],
    ) -> None:
        """`reader` returns a reader, given the function that wakes this delivery.

        `jitter` returns a random number in [0, 1).
        """
        state, retry = run.state, channel.retry
        self._channel = channel
        self._ledger = channel.ledger
        self._clock = channel.clock
        self._run = run
        self._state = state
        self._observe = run.observe
        self._jitter = jitter
        self._intake = Intake(state.next_batch, run.open_batches, run.limit, state.largest_accepted)
        self._outage = Outage(retry, channel.nobody_listens_hint)
        self._isolation = Isolation(
            retry.max_isolation_requests,
            state.isolation_requests,
            proven=state.largest_accepted > 0,
        )
        self._wake = asyncio.Event()
        self._reader = reader(self._wake.set)
        self._again: list[tuple[float, int, Work]] = []
        self._in_flight: dict[asyncio.Task[None], Attempt] = {}
        self._queue = AttemptQueue(channel, run, self._intake, self._note_sent)
        self._unsettled = 0
        self._stop: Stop | None = None
        self._bug: BaseException | None = None

    async def run(self) -> Stop | None:
        """Deliver until everything is settled, or something stops it; return what did."""
        self._reader.start()
        try:
            await self._deliver_all()
            await self._drain()
        except BaseException:  # The caller has cancelled it, or it is our bug.
            with suppress(Exception):  # An observer that raises here must not hide the first error.
                self.stop(Stop(ExitStatus.INCOMPLETE, "cancelled"))
            self._cancel(lambda _: True)
            # Another cancellation must not leave requests behind that nobody waits for.
            while under_way := [task for task in self._in_flight if not task.done()]:
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(under_way)
            raise
        if self._bug is not None:
            raise self._bug
        return self._stop

    async def _deliver_all(self) -> None:
        """Send what there is to send, until all of it is settled or something stops it."""
        try:
            while (work := await self._next_work()) is not None:
                await self._queue.reserve()
                self._launch(work)
        except CohortSyncError as error:
            self.stop(Stop.of(error))
        finally:
            self._reader.stop()

    def stop(self, stop: Stop) -> None:
        """Stop intake, and let requests under way end unless `stop` cancels them."""
        is_first = self._stop is None
        if is_first:
            self._stop = stop
        self._cancel(lambda attempt: stop.cancels or attempt.turn is None)
        self._wake.set()
        if is_first:  # Only now: an observer that raises must not keep the delivery going.
            self._observe(Stopping(stop.reason))

    def _cancel(self, which: Callable[[Attempt], bool]) -> None:
        for task, attempt in self._in_flight.items():
            if which(attempt):
                task.cancel()

    async def _drain(self) -> None:
        if not self._in_flight:
            return
        _, late = await asyncio.wait(
            self._in_flight, timeout=self._channel.settings.drain_seconds if self._stop else None
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
            may_send = len(self._in_flight) < self._most_at_once
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
            if may_send and self._again:
                await self._sleep(self._again[0][0] - now)
            else:
                await self._wake.wait()
            self._run.budget.wait(idle, self._clock.now() - now)
        return None

    def _may_admit(self) -> bool:
        return self._unsettled < self._most_at_once

    @property
    def _most_at_once(self) -> int:
        return self._channel.settings.max_in_flight if self._isolation.proven else 1

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _end_of_export(self) -> None:
        if isinstance(self._reader.failure, CohortSyncError):
            raise self._reader.failure
        if self._reader.failure is not None:
            self._bug = self._reader.failure
        elif (abort := self._isolation.at_end()) is not None:
            self._abort(abort)

    def _admit(self, batch: Batch) -> None:
        for work in self._intake.works_of(batch):
            self._observe(Planned(work.uid_count))
            self._enqueue(work)

    async def _cut_down(self, work: Work) -> None:
        """Split or reject a batch that is known to be too large without sending it."""
        halves: tuple[Work, ...] = ()
        change: Settlement | Division
        if work.uid_count > 1:
            reason = "larger than the limit in force"
            halves, change = divide(work, self._intake.next_number, isolated=False, reason=reason)
            self._intake.next_number += len(halves)
        else:
            reason = f"fits into no payload of {self._run.limit.configured_bytes} bytes"
            rejected = work.rejection(await find_place(work), reason, None)
            change = Settlement(BatchState.REJECTED, reason, rejected)
        registrations = self._intake.registrations()
        await self._ledger.change(self._state, registrations, work.number, change)
        self._intake.note_registered(registrations)
        if halves:
            self._replace(work, halves, reason)
        else:
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
            self._queue.release()
            return
        attempt = Attempt(work, self._clock.now())
        task = asyncio.create_task(self._attempt(attempt))
        self._in_flight[task] = attempt
        task.add_done_callback(self._note_ended)

    def _note_ended(self, task: asyncio.Task[None]) -> None:
        self._queue.leave(self._in_flight.pop(task))
        self._wake.set()
        if task.cancelled():
            if self._stop is None:  # Not by this delivery, which stops before it cancels.
                self.stop(Stop(ExitStatus.INCOMPLETE, "a request was cancelled"))
        elif (error := task.exception()) is not None:
            if not isinstance(error, CohortSyncError):
                self._bug = error
                error = CohortSyncError("an unforeseen error")
            self.stop(Stop.of(error))

    async def _attempt(self, attempt: Attempt) -> None:
        exchange = await self._queue.carry_out(attempt)
        await self._conclude(attempt, exchange)

    def _note_sent(self, work: Work) -> None:
        if work.isolated:
            self._isolation = self._isolation.after_request()
        self._observe(Sent(work.number, work.attempts, len(work.payload)))

    # What it leads to.

    async def _conclude(self, attempt: Attempt, exchange: Exchange) -> None:
        work, outcome = attempt.work, exchange.outcome
        now = self._clock.now()
        began = attempt.turn.sent_at if attempt.turn else attempt.began
        paused = self._channel.pacer.paused_seconds  # A pause by the hour is not an outage.
        abort = self._outage.judge(exchange, began - paused, now - paused)
        if abort is not None:
            self._abort(abort)
        ended = await attempt.ended(exchange, self._clock.stamp().utc_ns)
        conclusion = self._conclusion_of(work, ended)
        if conclusion.result is not None:
            await self._ledger.conclude(
                self._state, work.number, work.attempts, conclusion.result, conclusion.change
            )
        self._observe(
            Answered(work.number, work.attempts, outcome, now - began, exchange.http_status)
        )
        await self._take_step(work, conclusion.next_step)

    def _conclusion_of(self, work: Work, ended: EndedAttempt) -> Conclusion:
        """Conclude an attempt, and keep what that changes for the attempts to come."""
        conclusion = conclude(
            work,
            ended,
            Circumstances(
                self._channel.retry,
                self._isolation,
                self._intake.largest_accepted,
                self._intake.next_number,
                self._jitter(),
            ),
        )
        work.failures = conclusion.failures
        self._isolation = conclusion.isolation
        if isinstance(conclusion.next_step, Replace):
            halves = conclusion.next_step.halves
            self._intake.next_number += len(halves)
            if isinstance(ended.exchange.outcome, TooLarge):
                larger = max(len(half.payload) for half in halves)
                self._intake.lower_limit(len(work.payload), larger)
        return conclusion

    async def _take_step(self, work: Work, step: NextStep) -> None:
        match step:
            case Settle(state, reason):
                self._unsettled -= 1
                if state is BatchState.ACCEPTED:
                    self._intake.note_accepted(len(work.payload))
                    await self._settle_ambiguous()
                self._observe(Settled(work.number, state, work.uid_count, reason))
            case RetryAfter(seconds):
                self._retry_later(work, seconds)
            case Replace(halves):
                self._replace(work, halves, "the API refused it as a whole")
            case AwaitAcceptance(abort):
                self._unsettled -= 1
                if abort is not None:
                    self._abort(abort)
            case Abort():
                self._abort(step)

    def _abort(self, abort: Abort) -> None:
        if self._stop is None:
            self.stop(Stop(abort.exit_status, abort.reason, abort.hint))

    async def _settle_ambiguous(self) -> None:
        """After an acceptance, which proves the request: the uids refused before are wrong."""
        ambiguous = self._isolation.ambiguous
        self._isolation = self._isolation.after_acceptance()
        for refusal in ambiguous:
            settlement = refusal.settlement
            await self._ledger.change(self._state, (), refusal.number, settlement)
            self._observe(Settled(refusal.number, settlement.state, 1, settlement.reason))

    def _replace(self, work: Work, halves: Sequence[Work], reason: str) -> None:
        self._unsettled -= 1
        for half in halves:
            self._enqueue(half)
        self._observe(Divided(work.number, reason))
