"""One execution of the engine in virtual time: what is delivered, what is paced, and by when."""

import asyncio
import random
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.clock import Clock, Stamp
from engine.delivery.answer_reading import read_answer
from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.failure import read_failure
from engine.delivery.outcome import Accepted, Exchange
from engine.delivery.pipeline import Delivery
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import Stop
from engine.delivery.transport import TakeTurn
from engine.ledger.records import RunReference, RunState, ages
from engine.model.cohort import Action, Cohort
from engine.pacing.pacer import Pacer
from engine.pacing.schedule import PastSend
from engine.pacing.settings import PacingSettings
from engine.payload.batch import Batch
from engine.payload.envelope import Envelope
from engine.payload.limit import Limit
from engine.payload.settings import PackingSettings
from simulator.api import Api, MostInWindow
from simulator.export import Export, Reader, full_batch
from simulator.loop import VirtualClock, Wakes, punctual, run_virtually
from simulator.outcome_log import OutcomeLog

ENVELOPE = Envelope("partner", Cohort("cohort", "Cohort"), Action.ADD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is delivered, under which settings, and how this machine behaves meanwhile."""

    uids: int
    uid_bytes: int = 24
    """Length of each uid, in ASCII characters."""
    pacing: PacingSettings = field(default_factory=PacingSettings)
    packing: PackingSettings = field(default_factory=PackingSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    pause_before: Callable[[int], float] = lambda _: 0.0
    """Seconds that the source takes for each batch, numbered from 0."""
    commit_seconds: float = 0.002
    """What the ledger takes to make an entry durable."""
    wakes: Wakes = punctual
    wall_clock_error: Callable[[float], float] = lambda _: 0.0
    seed: int = 0
    """Of the jitter in the engine's own backoff."""

    @property
    def full_batch(self) -> Batch:
        """What each request carries, but for the last."""
        return full_batch(self.uid_bytes, ENVELOPE, self.packing.payload_bytes)


class Sends:
    """The transport: carries a payload to the model of the API, and notes when heads left."""

    def __init__(
        self, api: Api, clock: Clock, pacing: PacingSettings, timeout_seconds: float
    ) -> None:
        self._api = api
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._in_window = MostInWindow(pacing.per_seconds)
        self._accepted = array("d")
        self._under_way = 0
        self.count = 0
        self.most_under_way = 0
        """The most requests that had left and not been answered."""

    @property
    def accepted(self) -> Sequence[float]:
        """When each accepted request left, in order."""
        return sorted(self._accepted)

    @property
    def most_in_window(self) -> int:
        """The most sends in any window, by our own clock."""
        return self._in_window.most

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        """Send after `take_turn`, and read the answer as the engine does."""
        del payload
        await take_turn()
        left = self._clock.now()
        self._in_window.add(left)
        self.count += 1
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            return await self._answer(left)
        finally:
            self._under_way -= 1

    async def _answer(self, left: float) -> Exchange:
        arrival = self._api.send(left)
        seconds = sum(arrival.trip)
        await asyncio.sleep(min(seconds, self._timeout_seconds))
        self._api.judge_until(self._clock.now())
        if arrival.answer is None:
            await asyncio.sleep(left + self._timeout_seconds - self._clock.now())
        if arrival.answer is None or seconds > self._timeout_seconds:
            return Exchange(read_failure(TimeoutError(), head_left=True))
        reading = read_answer(arrival.answer, self._clock.stamp().utc_ns / 1e9)
        if isinstance(reading.outcome, Accepted):
            self._accepted.append(left)
        return Exchange(reading.outcome, arrival.answer.status, reading.request_id)


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """The result of a simulation."""

    pacing: PacingSettings
    stop: Stop | None
    """Why it ended early, if it did."""
    began: float
    ended: float
    outcomes: OutcomeLog
    sends: Sends
    margin: float
    """The schedule's margin at the end, in seconds."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    def ceiling_use(self, start: float, end: float) -> float:
        """Return accepted requests that left from `start` until `end`, as a share of the most."""
        accepted = self.sends.accepted
        count = bisect_left(accepted, end) - bisect_left(accepted, start)
        return count / ((end - start) * self.pacing.requests / self.pacing.per_seconds)


def simulate(
    scenario: Scenario,
    api: Api,
    *,
    start: float = 0.0,
    sent_before: Sequence[tuple[Stamp, int]] = (),
) -> SimulatedRun:
    """Deliver in virtual time from `start` seconds on; `sent_before` is an earlier execution's log.

    The random numbers of a scenario and an API, and the API's counts, continue from an earlier
    execution.
    """
    return run_virtually(
        lambda: _deliver(scenario, api, sent_before), start=start, wakes=scenario.wakes
    )


async def _deliver(
    scenario: Scenario, api: Api, sent_before: Sequence[tuple[Stamp, int]]
) -> SimulatedRun:
    pacing, limit = scenario.pacing, scenario.packing.payload_bytes
    clock = VirtualClock(wall_clock_error=scenario.wall_clock_error)
    began, stamp = clock.now(), clock.stamp()
    export = Export(scenario.uids, scenario.full_batch, ENVELOPE, scenario.pause_before)
    sends = Sends(api, clock, pacing, scenario.delivery.timeout_seconds)
    outcome_log = OutcomeLog(scenario.commit_seconds)
    recent = [ages(sent, ended_utc_ns, stamp) for sent, ended_utc_ns in sent_before]
    log = [PastSend(began - sent_ago, began - ended_ago) for sent_ago, ended_ago in recent]
    pacer = Pacer(pacing, clock, log)
    run = DeliveredRun(
        RunState(RunReference(1, "simulated"), 1, bool(sent_before), 1, bool(sent_before), 0),
        Limit(limit, limit),
        lambda _: None,
        pacer.open_budget(),
    )
    delivery = Delivery(
        Channel(outcome_log, clock, pacer, sends, scenario.delivery, scenario.retry),
        run,
        lambda wake: Reader(export, wake),
        random.Random(scenario.seed).random,
    )
    stop = await delivery.run()
    return SimulatedRun(pacing, stop, began, clock.now(), outcome_log, sends, pacer.schedule.margin)
