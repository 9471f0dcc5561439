"""The ceiling, kept and used: hours of sending in virtual time."""

import asyncio
import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.gate import LONGEST_HOLD_SECONDS
from engine.pacing.pacer import CATCH_UP, Pacer, Turn
from engine.pacing.schedule import SMALLEST_SLACK, PastSend
from engine.pacing.settings import PacingSettings
from virtual_time import START, VirtualClock, run_virtually

SETTINGS = [
    PacingSettings(300, 60),
    PacingSettings(300, 6),
    PacingSettings(10, 1),
    PacingSettings(5, 3600),
    PacingSettings(1, 1),
    PacingSettings(2, 0.05),
]
EPSILON = 1e-6

ids = [f"{s.requests}-per-{s.per_seconds:g}" for s in SETTINGS]
every_ceiling = pytest.mark.parametrize("settings", SETTINGS, ids=ids)


class Witness:
    """Takes turns, and asserts at each that the law holds by its own log."""

    def __init__(self, settings: PacingSettings, log: list[float] = ()) -> None:
        self.settings = settings
        self.pacer = Pacer(settings, VirtualClock(), [PastSend(at, at) for at in log])
        self.log = sorted(log)
        self.sent: list[float] = []

    async def take_turn(self) -> Turn:
        await self.pacer.approach()
        turn = await self.pacer.take_turn()
        window = self.settings.per_seconds * (1 + SMALLEST_SLACK)
        assert turn.sent_at == asyncio.get_running_loop().time()
        if len(self.log) >= self.settings.requests:
            assert turn.sent_at - self.log[-self.settings.requests] >= window - EPSILON
        self.log.append(turn.sent_at)
        self.sent.append(turn.sent_at)
        return turn

    async def send(self, round_trip: float) -> None:
        turn = await self.take_turn()
        await asyncio.sleep(round_trip)
        self.pacer.answered(turn, accepted=True)


@given(
    st.sampled_from(SETTINGS),
    st.integers(0),
    st.floats(0, 1),
    st.floats(0, 0.3),
    st.integers(0, 400),
)
def test_never_more_than_requests_in_any_window(settings, seed, pauses, late, logged) -> None:
    window = settings.per_seconds
    dice = random.Random(seed)
    ages = [dice.uniform(0, 1.5) for _ in range(logged)]

    async def main() -> None:
        witness = Witness(settings, [START - age * window for age in ages])

        async def caller() -> None:
            turn = await witness.take_turn()
            try:
                await asyncio.sleep(dice.uniform(0, window / 5))
            except asyncio.CancelledError:
                witness.pacer.unanswered(turn)
                raise
            match dice.random():
                case chance if chance < 0.03:
                    witness.pacer.throttled(turn, dice.choice([None, 0.0, window / 2]))
                case chance if chance < 0.06:
                    witness.pacer.unanswered(turn)
                case _:
                    witness.pacer.answered(turn)

        callers = []
        for _ in range(min(4 * settings.requests, 250)):
            callers.append(asyncio.create_task(caller()))
            if dice.random() < 0.1 * pauses:
                await asyncio.sleep(dice.choice([0.01, 0.3, 1.2]) * window)
            if dice.random() < 0.1:
                dice.choice(callers).cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await witness.send(0)  # whatever happened, it goes on

    run_virtually(main, lambda: dice.choice([0, late * window / settings.requests, late]))


@every_ceiling
@pytest.mark.parametrize("log", ["empty", "full"])
def test_a_full_window_before_the_start_is_waited_out(settings, log) -> None:
    async def main() -> float:
        ages = range(settings.requests) if log == "full" else range(settings.requests - 1)
        witness = Witness(settings, [START - 0.001 * age for age in ages])
        await witness.take_turn()
        return witness.sent[0] - START

    wait = run_virtually(main)
    if log == "full":
        assert wait >= settings.per_seconds - 0.001 * settings.requests
    else:
        assert wait <= settings.per_seconds / settings.requests


def share_of_ceiling(settings: PacingSettings, spread: float, late: float) -> float:
    """Send for twenty windows, two in line, and return what share of the ceiling was used."""
    dice = random.Random(7)
    slot = settings.per_seconds / settings.requests

    async def main() -> float:
        witness = Witness(settings)
        count = max(20 * settings.requests, 200)

        async def caller() -> None:
            while len(witness.sent) < count:
                turn = await witness.take_turn()
                seconds = 0.02 * settings.per_seconds + dice.uniform(0, spread)
                loop = asyncio.get_running_loop()
                loop.call_later(seconds, partial(witness.pacer.answered, turn, accepted=True))

        await asyncio.gather(caller(), caller())
        # The shortest round trip is known from the twentieth answer on; count after it.
        steady = witness.sent[len(witness.sent) // 4 :]
        allowed = (steady[-1] - steady[0]) / slot
        return (len(steady) - 1) / allowed

    return run_virtually(main, lambda: dice.uniform(0, late))


@every_ceiling
@pytest.mark.parametrize("lateness", [0, 0.5, 1.5])
def test_the_ceiling_is_used_where_round_trips_differ(settings, lateness) -> None:
    slot = settings.per_seconds / settings.requests
    late = min(lateness * slot, 0.005 * settings.per_seconds)
    assert share_of_ceiling(settings, 0.01 * settings.per_seconds, late) >= 0.985


@every_ceiling
def test_the_ceiling_is_used_to_the_last_where_round_trips_are_alike(settings) -> None:
    assert share_of_ceiling(settings, 0, 0) >= 0.998


@every_ceiling
def test_missed_turns_are_caught_up_a_few_at_a_time(settings) -> None:
    slot = settings.per_seconds / settings.requests

    async def main() -> list[float]:
        witness = Witness(settings)
        for pause in (0, 3 * settings.per_seconds, 0.3 * settings.per_seconds):
            await asyncio.sleep(pause)
            for _ in range(12):
                await witness.take_turn()
        return witness.sent

    sent = run_virtually(main)
    for first, start in enumerate(sent):
        for last, end in enumerate(sent[first:], first):
            assert last - first + 1 <= CATCH_UP + (end - start) / slot + EPSILON


@every_ceiling
def test_nothing_is_caught_up_at_the_start(settings) -> None:
    slot = settings.per_seconds / settings.requests

    async def main() -> list[float]:
        witness = Witness(settings)
        for _ in range(5):
            await witness.take_turn()
        return witness.sent

    assert all(after - before >= slot - EPSILON for before, after in pairwise(run_virtually(main)))


def test_a_caller_that_is_cancelled_leaves_no_trace() -> None:
    async def main() -> None:
        witness = Witness(PacingSettings(2, 10))
        await witness.take_turn()
        waiting = asyncio.create_task(witness.pacer.take_turn())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.sleep(10)
        before = asyncio.get_running_loop().time()
        for _ in range(2):
            await witness.take_turn()
        assert witness.sent[1] == pytest.approx(before)

    run_virtually(main)


async def waiting_for(pacer: Pacer, count: int) -> list[asyncio.Task[Turn]]:
    """Return tasks that wait for their turns."""
    waiting = [asyncio.create_task(pacer.take_turn()) for _ in range(count)]
    await asyncio.sleep(0.1)
    return waiting


def test_an_answer_wakes_the_request_that_waits_for_it() -> None:
    async def main() -> None:
        witness = Witness(PacingSettings(1, 10))
        first = await witness.take_turn()
        [waiting] = await waiting_for(witness.pacer, 1)
        # Without an answer, it would wait for the largest margin: 10.2 s.
        witness.pacer.answered(first, accepted=True)
        turn = await waiting
        window = 10 * (1 + SMALLEST_SLACK)
        assert turn.sent_at == pytest.approx(first.sent_at + 0.1 + window, abs=2e-3)

    run_virtually(main)


def test_a_cancelled_request_that_waits_for_an_answer_leaves_no_trace() -> None:
    async def main() -> None:
        witness = Witness(PacingSettings(1, 10))
        first = await witness.take_turn()
        waiting = await waiting_for(witness.pacer, 2)
        waiting[0].cancel()
        await asyncio.sleep(0.1)
        witness.pacer.answered(first)
        turn = await waiting[1]
        assert turn.sent_at == pytest.approx(first.sent_at + 10.2, abs=0.02)
        assert waiting[0].cancelled()

    run_virtually(main)


def test_a_request_sleeps_once_for_the_window_and_is_not_woken_by_every_answer() -> None:
    """Nothing polls: the sleeps are counted, and so is each wake-up of them by an answer."""
    sleeps, dice = [], random.Random(1)

    async def main() -> None:
        settings = PacingSettings(300, 60)
        pacer = Pacer(settings, VirtualClock())
        sleep = pacer._sleep

        async def counted(seconds: float) -> None:
            began = asyncio.get_running_loop().time()
            await sleep(seconds)
            sleeps.append((seconds, asyncio.get_running_loop().time() - began))

        pacer._sleep = counted  # type: ignore[method-assign]
        for _ in range(1500):
            turn = await pacer.take_turn()
            answer = partial(pacer.answered, turn, accepted=True)
            asyncio.get_running_loop().call_later(dice.lognormvariate(-2.5, 0.5), answer)

    run_virtually(main)
    assert 1000 <= len(sleeps) <= 1200  # one each after the first window
    # Few answers allow an earlier send: those of the requests of a window ago that took so long.
    assert sum(1 for asked, slept in sleeps if slept < asked - 1e-3) <= 10


def test_turns_are_given_in_the_order_asked() -> None:
    async def main() -> list[int]:
        witness = Witness(PacingSettings(10, 1))
        order: list[int] = []

        async def caller(number: int) -> None:
            await witness.take_turn()
            order.append(number)

        await asyncio.gather(*(caller(number) for number in range(30)))
        return order

    assert run_virtually(main) == list(range(30))


def test_a_long_wait_is_waited_out_before_a_connection_is_taken() -> None:
    async def main() -> None:
        clock = VirtualClock()
        pacer = Pacer(PacingSettings(2, 60), clock, [PastSend(START, START)] * 2)
        await pacer.approach()
        assert clock.now() - START == pytest.approx(60 + 60 * SMALLEST_SLACK - 1)

    run_virtually(main)


TEN_IN_TEN = PacingSettings(10, 10)


def outcomes_of(api: "Api", seconds: float, settings: PacingSettings = TEN_IN_TEN) -> list[float]:
    """Let four callers send for so long to an API that may throttle; return when they sent."""

    async def main() -> list[float]:
        witness = Witness(settings)

        async def caller() -> None:
            while True:
                turn = await witness.take_turn()
                await asyncio.sleep(api.round_trip)
                api.answer(witness.pacer, turn)

        tasks = [asyncio.create_task(caller()) for _ in range(4)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [at - START for at in witness.sent]

    return run_virtually(main)


class Api:
    """Answers 429 to what is sent within `throttles`, loses what is sent within `loses`."""

    round_trip = 0.5

    def __init__(
        self,
        throttles: tuple[float, float],
        retry_after: float | None = None,
        loses: tuple[float, float] = (-1, -1),
    ) -> None:
        self.throttles, self.retry_after, self.loses = throttles, retry_after, loses

    def answer(self, pacer: Pacer, turn: Turn) -> None:
        at = turn.sent_at - START
        if self.throttles[0] <= at < self.throttles[1]:
            pacer.throttled(turn, self.retry_after)
        elif self.loses[0] <= at < self.loses[1]:
            pacer.unanswered(turn)
        else:
            pacer.answered(turn)


def between(sent: list[float], start: float, end: float) -> list[float]:
    return [at for at in sent if start < at < end]


def test_a_429_closes_the_gate_for_everyone() -> None:
    sent = outcomes_of(Api((4.5, 5.5), retry_after=20), 60)
    [throttled] = between(sent, 4.5, 5.5)
    heard, opens = throttled + 0.5, throttled + 20.5
    assert between(sent, heard, opens) == []
    [probe] = between(sent, opens - EPSILON, opens + 0.5)
    assert probe == pytest.approx(opens, abs=1e-3)
    assert len(between(sent, opens + 0.5, opens + 10.5)) >= 9


def test_an_absurd_wait_is_cut() -> None:
    sent = outcomes_of(Api((4.5, 5.5), retry_after=1e9), 2 * LONGEST_HOLD_SECONDS)
    [throttled] = between(sent, 4.5, 5.5)
    [probe, *_] = between(sent, throttled + 0.5, 1e9)
    assert probe == pytest.approx(throttled + 0.5 + LONGEST_HOLD_SECONDS, abs=1e-3)


def test_an_hour_of_429s_costs_a_probe_a_window_and_then_it_goes_on() -> None:
    sent = outcomes_of(Api((0, 3600)), 3800, PacingSettings(300, 60))
    probes = between(sent, 10, 3600)
    assert len(probes) <= 70
    holds = [after - before - Api.round_trip for before, after in pairwise(probes)]
    assert holds[-1] == pytest.approx(60, abs=1e-3)
    assert len(between(sent, 3670, 3790)) >= 2 * 290


def test_a_lost_probe_is_followed_by_another_and_by_nothing_else() -> None:
    sent = outcomes_of(Api((4.5, 5.5), retry_after=10, loses=(10, 20)), 60)
    probes = between(sent, 10, 20)
    assert len(probes) >= 4
    # Each goes when the one before it is known to be lost.
    assert all(after - before >= Api.round_trip for before, after in pairwise(probes))
    assert len(between(sent, 21, 41)) >= 19


def test_what_was_under_way_when_the_gate_closed_does_not_raise_the_backoff() -> None:
    crowd = Api((4.5, 7.5))
    crowd.round_trip = 3.0
    sent = outcomes_of(crowd, 60)
    throttled = between(sent, 4.5, 7.5)
    assert len(throttled) == 3
    [probe, *_] = between(sent, throttled[0] + 3 + 0.1, 60)
    # One second after the last of their 429s, as if there had been one.
    assert probe == pytest.approx(throttled[-1] + 3 + 1, abs=1e-3)
