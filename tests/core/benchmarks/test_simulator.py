"""Hours of delivery in virtual time: the ceiling is used, and never passed."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from engine.delivery.settings import DeliverySettings
from engine.pacing.settings import PacingSettings
from simulator.api import Api, every_limiter
from simulator.forecast import forecast
from simulator.latency import (
    Latency,
    drifting,
    jittered,
    late_now_and_then,
    lognormal,
    pareto,
    slow_between,
    steady,
)
from simulator.loop import BusyProcessor
from simulator.simulation import Scenario, SimulatedRun, simulate

MINUTE = PacingSettings(300, 60)
OTHERS = [PacingSettings(10, 1), PacingSettings(300, 6), PacingSettings(5, 3600)]
every_other_ceiling = pytest.mark.parametrize(
    "ceiling", OTHERS, ids=[f"{c.requests}-per-{c.per_seconds:g}" for c in OTHERS]
)
seeds = pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
SMALL_JITTER = 1 / 3000
"""As a share of the window: 20 ms of a minute."""
WIDE_JITTER = 1 / 200
"""As a share of the window: 300 ms of a minute."""
HOUR = 18_000
"""Requests that an hour takes at the API's own ceiling."""

UIDS_A_REQUEST = Scenario(uids=1).full_batch.uid_count


def simulated(
    requests: int,
    latency: Latency,
    ceiling: PacingSettings = MINUTE,
    *,
    phase: float = 0.0,
    **how: Any,  # noqa: ANN401 - fields of a Scenario
) -> tuple[SimulatedRun, Api]:
    """Deliver that many requests' worth of uids to an API that has every kind of limit at once."""
    api = Api(ceiling, every_limiter(ceiling, phase), latency)
    execution = simulate(Scenario(uids=requests * UIDS_A_REQUEST, pacing=ceiling, **how), api)
    return execution, api


def assert_never_over(execution: SimulatedRun, api: Api) -> None:
    """No window above the ceiling by our log, none as the API counts, and nothing left undone."""
    assert execution.stop is None
    assert execution.sends.most_in_window <= execution.pacing.requests
    assert api.most_in_window <= execution.pacing.requests
    assert set(api.refused.values()) == {0}
    assert set(api.answers) == {200}
    assert api.answers[200] == execution.outcomes.batches.total() == execution.sends.count


def steady_use(execution: SimulatedRun, after: float | None = None) -> float:
    """Return the ceiling's use by whole windows, from two of them or `after` to the last send."""
    ceiling = execution.pacing
    start = 2 * ceiling.per_seconds if after is None else after
    steady = [at for at in execution.sends.accepted if at >= start]
    # What ends add to a window is lost once in it, so parts of windows would tell too much.
    steady = steady[-((len(steady) - 1) // ceiling.requests * ceiling.requests) - 1 :]
    per_second = ceiling.requests / ceiling.per_seconds
    return (len(steady) - 1) / (steady[-1] - steady[0]) / per_second


LARGEST_DRIFT = 500e-6
"""The largest difference of our clock and the API's in rate, if NTP has to set one of them."""
NTP_DRIFT = 50e-6
"""The largest one of clocks that NTP keeps right."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How long requests take, and the share of the ceiling that is used at least."""

    latency: Callable[[random.Random], Latency]
    use: float
    drift: float = LARGEST_DRIFT
    spaced: bool = True
    """Whether arrivals stay in order: a limit on their spacing can be kept."""


CONDITIONS = {
    "undisturbed": Conditions(lambda _: steady(0.1), 0.9990),
    "small jitter": Conditions(lambda rng: jittered(rng, 0.02), 0.9990),
    "wide jitter": Conditions(lambda rng: jittered(rng, 0.3, seconds=0.004), 0.995),
    "lognormal answers": Conditions(lambda rng: lognormal(rng, 0.08), 0.998),
    "jitter and lognormal": Conditions(
        lambda rng: lognormal(rng, 0.08, spread=0.3), 0.994, NTP_DRIFT
    ),
    "slow api": Conditions(lambda rng: lognormal(rng, 2.0), 0.980),
    "pareto": Conditions(lambda rng: pareto(rng, 0.05), 0.993, spaced=False),
    "late": Conditions(lambda rng: late_now_and_then(rng, 0.01, 2.0, steady()), 0.998),
}


@pytest.mark.parametrize(
    "requests", [HOUR // 6, pytest.param(HOUR, marks=pytest.mark.slow)], ids=["sixth", "whole"]
)
@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
def test_hours_at_the_ceiling(requests: int, conditions: Conditions) -> None:
    rng = random.Random(1)
    limiters = every_limiter(MINUTE, rng.uniform(0, 60))
    if not conditions.spaced:
        del limiters["gcra"]
    api = Api(MINUTE, limiters, conditions.latency(rng), clock_rate=1 - conditions.drift)
    execution = simulate(Scenario(uids=requests * UIDS_A_REQUEST), api)
    assert_never_over(execution, api)
    assert steady_use(execution) >= conditions.use
    # It does not drift: the last five minutes are as good as all of them.
    assert steady_use(execution, execution.ended - 310) >= conditions.use - 0.002


@seeds
def test_jitter_on_the_to_arrival_meets_no_refusal_whatever_the_round_trip(seed) -> None:
    rng = random.Random(seed)
    latency = jittered(rng, WIDE_JITTER * 60, seconds=rng.uniform(0.05, 2))
    execution, api = simulated(HOUR // 6, latency, phase=rng.uniform(0, 60))
    assert_never_over(execution, api)
    assert steady_use(execution) >= 0.990


@seeds
@every_other_ceiling
def test_another_ceiling_is_used_as_well(ceiling, seed) -> None:
    rng = random.Random(seed)
    for jitter, use in ((SMALL_JITTER, 0.998), (WIDE_JITTER, 0.990)):
        spread = jitter * ceiling.per_seconds
        latency = jittered(rng, spread)
        phase = rng.uniform(0, ceiling.per_seconds)
        # What waits longer for its answer than a minute is timed out.
        patient = DeliverySettings(timeout_seconds=60 + 2 * spread)
        execution, api = simulated(1500, latency, ceiling, phase=phase, delivery=patient)
        assert_never_over(execution, api)
        assert steady_use(execution) >= use


@pytest.mark.parametrize(
    ("ceiling", "use"),
    # 20 ms are a third of a thousandth of a minute, but two hundredths of a second: half of the
    # wake-ups are late by half of that, and each waits a whole window from a send that was late.
    [(MINUTE, 0.995), (PacingSettings(300, 6), 0.990), (PacingSettings(10, 1), 0.980)],
    ids=["300-per-60", "300-per-6", "10-per-1"],
)
def test_a_busy_that_blocks_half_of_the_time(ceiling, use) -> None:
    latency = jittered(random.Random(1), SMALL_JITTER * ceiling.per_seconds)
    execution, api = simulated(HOUR // 6, latency, ceiling, wakes=BusyProcessor(random.Random(2)))
    assert_never_over(execution, api)
    assert steady_use(execution) >= use


def test_latency_that_drifts_by_seconds() -> None:
    latency = drifting(random.Random(1), least=0.05, most=2.0, period=600, spread=0.02)
    execution, api = simulated(HOUR // 3, latency)
    assert_never_over(execution, api)
    assert steady_use(execution) >= 0.990


def test_a_slow_api_is_waited_for_and_then_the_ceiling_is_used_again() -> None:
    brisk = jittered(random.Random(1), SMALL_JITTER * 60)
    settings = DeliverySettings(max_in_flight=64)
    latency = slow_between(120, 420, steady(30), brisk)
    execution, api = simulated(HOUR // 4, latency, delivery=settings)
    assert_never_over(execution, api)
    # Full is full: 64 under way for 30 s each.
    assert execution.sends.most_under_way == execution.outcomes.most_open == settings.max_in_flight
    assert execution.ceiling_use(180, 420) == pytest.approx(64 / 30 / 5, rel=0.05)
    # A window's round trips later, those of the slow hour are forgotten.
    assert steady_use(execution, 600) >= 0.998


@seeds
@pytest.mark.parametrize("seconds", [15.0, 60.0, 300.0])
def test_a_pause_of_the_source_is_never_made_up_for(seconds, seed) -> None:
    rng = random.Random(seed)
    stalls = {rng.randrange(300, 1200): seconds for _ in range(2)}
    latency = jittered(rng, WIDE_JITTER * 60)
    execution, api = simulated(1800, latency, pause_before=lambda batch: stalls.get(batch, 0.0))
    assert_never_over(execution, api)
    assert execution.seconds >= (1800 - 300) / 5 + seconds * len(stalls) - 60


def test_a_source_that_is_too_slow_is_waited_for_with_nothing_piling_up() -> None:
    execution, api = simulated(600, steady(0.1), pause_before=lambda _: 0.5)
    assert_never_over(execution, api)
    assert execution.outcomes.most_open <= 2
    assert execution.seconds == pytest.approx(300, rel=0.01)


def sends_under(wall_clock_error: Callable[[float], float]) -> list[float]:
    latency = jittered(random.Random(1), SMALL_JITTER * 60)
    execution, _ = simulated(1200, latency, wall_clock_error=wall_clock_error)
    return list(execution.sends.accepted)


def test_steps_of_the_wall_clock_change_nothing() -> None:
    def stepping(now: float) -> float:
        return random.Random(int(now / 20)).uniform(-86_400, 86_400)

    assert sends_under(stepping) == sends_under(lambda _: 0.0)


@pytest.mark.parametrize(("pause", "step"), [(0.0, -3600.0), (15.0, 3600.0), (59.0, 0.0)])
def test_a_restart_goes_on_inside_the_window_whatever_the_wall_clock_says(pause, step) -> None:
    api = Api(MINUTE, every_limiter(MINUTE, 7.0), jittered(random.Random(1), WIDE_JITTER * 60))
    scenario = Scenario(uids=450 * UIDS_A_REQUEST)
    before = simulate(scenario, api)
    stepped = Scenario(uids=scenario.uids, wall_clock_error=lambda _: step)
    after = simulate(
        stepped, api, start=before.ended + pause, sent_before=tuple(before.outcomes.sent)
    )
    assert api.answers == {200: 900}
    assert api.most_in_window <= 300
    # Nothing was held back for longer than the window asks, either.
    assert after.ended - before.began <= 900 / 5 * 1.01 + pause + 1


def test_the_same_rng_give_the_same_run() -> None:
    def times() -> list[float]:
        rng = random.Random(5)
        latency = jittered(rng, WIDE_JITTER * 60)
        execution, _ = simulated(900, latency, wakes=BusyProcessor(rng))
        return list(execution.sends.accepted)

    assert times() == times()


@pytest.mark.parametrize("uids", [1, UIDS_A_REQUEST, UIDS_A_REQUEST + 1, 5_000_000])
def test_the_forecast_agrees_with_the_simulation(uids) -> None:
    execution = simulate(Scenario(uids=uids), Api(MINUTE, every_limiter(MINUTE), steady(0.1)))
    output = forecast(uids, UIDS_A_REQUEST, MINUTE)
    assert execution.sends.count == output.requests
    assert sum(execution.outcomes.uids.values()) == uids
    assert output.least_seconds <= execution.seconds <= output.most_seconds + 0.5


def test_an_answer_that_is_too_late_is_none() -> None:
    impatient = DeliverySettings(timeout_seconds=1.0)
    late = slow_between(60, 90, steady(1.8), steady(0.1))
    execution, api = simulated(600, late, delivery=impatient)
    assert execution.stop is None
    assert execution.outcomes.by_name["unconfirmed"] >= 100
    assert execution.outcomes.by_name["accepted"] == 600
    assert execution.sends.most_in_window <= 300
    # The API answered each of them. It took most of the late ones twice; where the way in
    # becomes shorter again, a few meet a 429, and may be too late for that as well.
    assert api.answers.total() == execution.outcomes.by_name.total()
    assert api.answers[429] <= 3
    assert set(api.answers) == {200, 429}


@pytest.mark.slow
def test_a_run_of_100_million_uids() -> None:
    latency = jittered(random.Random(1), SMALL_JITTER * 60)
    api = Api(MINUTE, every_limiter(MINUTE, 17.0), latency)
    execution = simulate(Scenario(uids=100_000_000), api)
    assert_never_over(execution, api)
    assert sum(execution.outcomes.uids.values()) == 100_000_000
    output = forecast(100_000_000, UIDS_A_REQUEST, MINUTE)
    assert execution.seconds == pytest.approx(output.least_seconds, rel=0.001)
    assert execution.seconds < 92 * 60
