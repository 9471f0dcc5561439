"""Bad hours in virtual time: what the API refuses or loses is delivered in the end."""

import random

import pytest

from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus
from engine.pacing.settings import PacingSettings
from simulator.api import Api, BadHour, SlidingWindow, every_limiter
from simulator.latency import jittered
from simulator.simulation import Scenario, SimulatedRun, simulate

MINUTE = PacingSettings(300, 60)
HOUR = 3600.0
UIDS_A_REQUEST = Scenario(uids=1).full_batch.uid_count
# Were a 429 a failure, or time without an answer, this would end the run or leave uids behind.
UNFORGIVING = RetrySettings(max_attempts=1, give_up_after_seconds=120)


def deliver(
    requests: int, *bad_hours: BadHour, retry: RetrySettings = UNFORGIVING
) -> tuple[SimulatedRun, Api]:
    latency = jittered(random.Random(1), 0.02)
    api = Api(MINUTE, every_limiter(MINUTE, 17.0), latency, bad_hours)
    return simulate(Scenario(uids=requests * UIDS_A_REQUEST, retry=retry), api), api


def assert_all_accepted(execution: SimulatedRun, api: Api, requests: int) -> None:
    assert execution.stop is None
    assert execution.outcomes.batches == {"accepted": requests}
    assert execution.outcomes.uids == {"accepted": requests * UIDS_A_REQUEST}
    assert execution.sends.most_in_window <= MINUTE.requests
    assert set(api.refused.values()) == {0}


START, END = 60.0, 60.0 + HOUR
DATE = "Tue, 14 Nov 2023 23:14:20 GMT"
"""When the bad hour ends, by the simulated wall clock."""


@pytest.mark.parametrize(
    ("headers", "longest_hold", "most_refusals"),
    [
        ({}, 60, 70),
        ({"Retry-After": "soon"}, 60, 70),
        ({"Retry-After": "60"}, 60, 62),
        ({"Retry-After": "7.5"}, 60, 70),
        ({"Retry-After": "0"}, 60, 75),
        ({"Retry-After": "999999999"}, 600, 8),
        ({"Retry-After": DATE}, 1, 9),
    ],
    ids=["silent", "malformed", "minute", "decimal", "zero", "absurd", "date"],
)
def test_an_hour_of_429s_ends_by_itself(headers, longest_hold, most_refusals) -> None:
    execution, api = deliver(1800, BadHour(START, END, 429, headers))
    assert_all_accepted(execution, api, 1800)
    # A probe a hold, after the one or two that were under way when the gate closed.
    assert 1 <= api.answers[429] <= most_refusals
    assert execution.sends.count == 1800 + api.answers[429]
    assert execution.outcomes.most_open <= 8
    assert execution.sends.most_under_way <= 8
    first = next(sent for sent in execution.sends.accepted if sent >= END)
    assert first - END <= longest_hold + 1
    # Then the ceiling is used again, less the margin that the 429s widened.
    assert execution.ceiling_use(first + 60, execution.sends.accepted[-1]) >= 0.98


def test_429s_in_every_other_minute() -> None:
    hours = [BadHour(minute * 60, minute * 60 + 30, 429) for minute in range(1, 30, 2)]
    execution, api = deliver(3000, *hours)
    assert_all_accepted(execution, api, 3000)
    assert execution.outcomes.most_open <= 8
    assert api.answers[429] <= 15 * 9


def test_an_outage_shorter_than_patience_is_waited_out() -> None:
    patient = RetrySettings(max_attempts=100, give_up_after_seconds=900)
    execution, api = deliver(1200, BadHour(60, 660, 503), retry=patient)
    assert_all_accepted(execution, api, 1200)
    assert execution.outcomes.most_open <= 64
    assert execution.outcomes.by_name["unconfirmed"] == api.answers[503] >= 64
    assert execution.ceiling_use(760, execution.sends.accepted[-1]) >= 0.98


@pytest.mark.parametrize("status", [503, None], ids=["503", "silence"])
def test_an_outage_longer_than_patience_stops_the_run_with_balanced_accounts(status) -> None:
    patient = RetrySettings(max_attempts=1000, give_up_after_seconds=900)
    execution, _ = deliver(1200, BadHour(60, 1e9, status), retry=patient)
    assert execution.stop is not None
    assert execution.stop.exit_status is ExitStatus.INCOMPLETE
    # From the start of the first attempt that failed; then a last one may take its minute.
    assert 60 + 900 - 5 <= execution.ended <= 60 + 900 + 2 * 60 + 30
    assert execution.outcomes.by_name.total() == execution.outcomes.intents
    assert execution.outcomes.most_open <= 64


def test_answers_that_are_lost_for_a_minute_are_asked_for_again() -> None:
    patient = RetrySettings(max_attempts=10)
    execution, api = deliver(1200, BadHour(60, 65, None), retry=patient)
    assert_all_accepted(execution, api, 1200)
    assert execution.outcomes.by_name["unconfirmed"] == api.answers[None] >= 20


@pytest.mark.parametrize("allowed", [270, 150])
def test_a_ceiling_that_is_lower_than_configured_is_found(allowed) -> None:
    real = PacingSettings(allowed, 60)
    api = Api(real, {"sliding": SlidingWindow(real)}, jittered(random.Random(1), 0.02))
    execution = simulate(Scenario(uids=4500 * UIDS_A_REQUEST, retry=UNFORGIVING), api)
    assert execution.stop is None
    assert execution.outcomes.batches == {"accepted": 4500}
    used = execution.ceiling_use(600, execution.sends.accepted[-1]) * MINUTE.requests / allowed
    assert 0.85 <= used <= 1.0
    # It costs a 429 now and then to learn that the ceiling has not risen.
    assert api.answers[429] <= 0.02 * 4500
