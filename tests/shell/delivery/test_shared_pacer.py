"""However an attempt ends, the pacer hears of it once: the other runs go on."""

import asyncio
from collections.abc import Callable

import pytest
from stage import ENVELOPE, OK

from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.events import Answered, Event, Sent, Stopping
from engine.delivery.outcome import Exchange
from engine.delivery.pipeline import Delivery
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import Stop
from engine.delivery.transport import TakeTurn
from engine.errors import ExitStatus
from engine.ledger.records import RunReference, RunState
from engine.pacing.pacer import Pacer, Paused, Turn
from engine.pacing.settings import PacingSettings
from engine.payload.limit import Limit
from simulator.export import Export, Reader, full_batch
from simulator.outcome_log import OutcomeLog
from virtual_time import VirtualClock, run_virtually

STEPS = [
    "the intent",
    "the send",
    "the observer of the send",
    "the answer",
    "the outcome",
    "the observer of the answer",
]
"""The steps of an attempt at which something may go wrong."""
Trouble = Callable[[], None]


class ReportedPacer(Pacer):
    """Counts the turns without a report."""

    unreported = 0

    async def take_turn(self, paused: Paused = lambda _: None) -> Turn:
        turn = await super().take_turn(paused)
        self.unreported += 1
        return turn

    def throttled(self, turn: Turn, retry_after: float | None) -> None:
        self.unreported -= 1
        super().throttled(turn, retry_after)

    def answered(self, turn: Turn, *, accepted: bool = False) -> None:
        self.unreported -= 1
        super().answered(turn, accepted=accepted)

    def unanswered(self, turn: Turn) -> None:
        self.unreported -= 1
        super().unanswered(turn)


class Parts(OutcomeLog):
    """Plays the network and the ledger; makes trouble at one step of the first attempt."""

    def __init__(self, step: str, trouble: Trouble) -> None:
        super().__init__(0.005)
        self._step, self._trouble = step, trouble

    def reach(self, step: str) -> None:
        if step == self._step:
            self._step = ""
            self._trouble()

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        del payload
        await take_turn()
        self.reach("the send")
        await asyncio.sleep(0.1)
        self.reach("the answer")
        return OK

    async def intend(self, *entry: object) -> None:
        self.reach("the intent")
        await super().intend(*entry)

    async def conclude(self, *entry: object) -> None:
        self.reach("the outcome")
        await super().conclude(*entry)

    def observe(self, event: Event) -> None:
        if isinstance(event, Sent):
            self.reach("the observer of the send")
        if isinstance(event, Answered):
            self.reach("the observer of the answer")
        if isinstance(event, Stopping):
            self.reach("the observer of the stop")


class Runs:
    """Two runs that share a pacer, which is to send a probe first."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.pacer = ReportedPacer(PacingSettings(10, 10), clock, held_seconds=1.0)
        self.clock = clock

    def delivery(self, parts: Parts) -> Delivery:
        channel = Channel(
            *(parts, self.clock, self.pacer, parts, DeliverySettings(), RetrySettings())
        )
        run = DeliveredRun(
            RunState(
                RunReference(1, "run"),
                execution=1,
                is_resumed=False,
                next_batch=1,
                largest_accepted=0,
                isolation_requests=0,
            ),
            Limit(1000, 1000),
            parts.observe,
            self.pacer.open_budget(),
        )
        export = Export(60, full_batch(24, ENVELOPE, 1000), ENVELOPE, lambda _: 0.0)
        return Delivery(channel, run, lambda wake: Reader(export, wake), lambda: 0.5)

    async def troubled(self, step: str, trouble: Trouble | None) -> None:
        """Deliver the one run; without `trouble`, cancel it at the step."""
        cancel = asyncio.current_task().cancel if trouble is None else trouble
        try:
            await self.delivery(Parts(step, cancel)).run()
        except (asyncio.CancelledError, BugError, DeathError):
            return

    async def goes_on(self) -> None:
        assert self.pacer.unreported == 0
        async with asyncio.timeout(1000):
            assert await self.delivery(Parts("", fail)).run() is None
        assert self.pacer.unreported == 0


class BugError(Exception):
    """An exception of ours that nobody foresaw."""


class DeathError(BaseException):
    """An exception that not even `except Exception` catches."""


def fail() -> None:
    raise BugError


def die() -> None:
    raise DeathError


def cancel_self() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("trouble", [fail, die, cancel_self, None])
@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_ends_early_holds_up_no_other_run(
    step: str, trouble: Trouble | None
) -> None:
    async def main() -> None:
        runs = Runs()
        await runs.troubled(step, trouble)
        await runs.goes_on()

    run_virtually(main)


@pytest.mark.parametrize("step", ["", "the observer of the stop"])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.001, 1.006, 1.05, 1.106, 1.109, 1.2, 1.5])
def test_a_run_that_is_cancelled_holds_up_no_other(seconds: float, step: str) -> None:
    async def main() -> None:
        runs = Runs()
        running = asyncio.create_task(runs.delivery(Parts(step, fail)).run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left behind"
        await runs.goes_on()

    run_virtually(main)


@pytest.mark.parametrize("stops", [1, 2])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.001, 1.006, 1.05, 1.106, 1.109, 1.2, 1.5])
def test_a_run_that_is_stopped_holds_up_no_other(seconds: float, stops: int) -> None:
    async def main() -> None:
        runs = Runs()
        delivery = runs.delivery(Parts("", fail))
        running = asyncio.create_task(delivery.run())
        await asyncio.sleep(seconds)
        for number in range(stops):
            delivery.stop(Stop(ExitStatus.INCOMPLETE, "a signal", cancels=number > 0))
        await running
        await runs.goes_on()

    run_virtually(main)
