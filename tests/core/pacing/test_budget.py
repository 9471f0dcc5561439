"""Where the ceiling went: it adds up to the request, and each cause pays for its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.budget import Budget, Cause
from engine.pacing.settings import PacingSettings

SETTINGS = PacingSettings(300, 60)
causes = st.sampled_from([Cause.HELD, Cause.INPUT, Cause.IN_FLIGHT])
waits = st.dictionaries(causes, st.floats(0, 100))
steps = st.lists(st.tuples(st.floats(0, 100), waits, st.floats(0, 0.6)), min_size=1, max_size=50)


@given(steps)
def test_used_and_lost_add_up_to_what_the_ceiling_allowed(gaps) -> None:
    budget = Budget(SETTINGS)
    now = first = 1000.0
    for number, (gap, waited, margin) in enumerate(gaps):
        now += gap if number else 0.0
        for cause, seconds in waited.items():
            budget.wait(cause, seconds)
        budget.send(now, margin)
    spending = budget.spending
    assert spending.used == len(gaps)
    assert spending.allowed == pytest.approx(1 + (now - first) * 5, abs=1e-6)
    assert spending.allowed == pytest.approx(spending.used + sum(spending.lost.values()), abs=1e-6)
    assert all(spending.lost[cause] >= 0 for cause in Cause if cause is not Cause.LATE)


@pytest.mark.parametrize("cause", [Cause.HELD, Cause.INPUT, Cause.IN_FLIGHT])
def test_a_pause_is_charged_to_its_cause(cause: Cause) -> None:
    budget = Budget(SETTINGS)
    budget.send(0.0, 0.0)
    budget.wait(cause, 10.0)
    budget.send(10.2, 0.0)
    assert budget.spending.lost[cause] == pytest.approx(50)
    assert budget.spending.lost[Cause.LATE] == pytest.approx(0)


def test_a_wait_that_cost_no_slot_is_charged_to_nobody() -> None:
    budget = Budget(SETTINGS)
    budget.send(0.0, 0.0)
    budget.wait(Cause.INPUT, 0.19)
    budget.send(0.2, 0.0)
    assert sum(map(abs, budget.spending.lost.values())) == pytest.approx(0)


def test_a_stretched_window_costs_its_margin_once() -> None:
    budget = Budget(SETTINGS)
    for number in range(301):
        budget.send(number * 60.6 / 300, 0.6)
    assert budget.spending.lost[Cause.MARGIN] == pytest.approx(3.0)
    assert budget.spending.lost[Cause.LATE] == pytest.approx(0.0, abs=1e-6)


def test_what_is_caught_up_gives_back_what_was_late() -> None:
    budget = Budget(SETTINGS)
    for at in (0.0, 0.8, 0.8, 0.8, 0.8, 1.0):
        budget.send(at, 0.0)
    assert budget.spending.lost[Cause.LATE] == pytest.approx(0.0)
