"""Where the ceiling went: it adds up to the request, and each cause pays for its own."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pacing.budget import Budget, Cause, SharedUse
from engine.pacing.settings import PacingSettings

SETTINGS = PacingSettings(300, 60)
LOCAL = [Cause.INPUT, Cause.IN_FLIGHT]
"""What one run waits for; a 429 holds all of them."""


def allowed_between(start: float, end: float) -> float:
    return (end - start) * SETTINGS.requests / SETTINGS.per_seconds


waits = st.dictionaries(st.sampled_from([Cause.HELD, *LOCAL]), st.floats(0, 100))
steps = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0, 100), waits, st.floats(0, 0.6)),
    min_size=1,
    max_size=50,
)


@dataclass
class Runs:
    """Up to three runs that share a pacer."""

    shared: SharedUse = field(default_factory=SharedUse)
    sends: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budgets = [Budget(allowed_between, self.shared) for _ in range(3)]

    def wait(self, cause: Cause, seconds: float, run: int = 0) -> None:
        if cause is Cause.HELD:
            self.shared.held_seconds += seconds
        else:
            self.budgets[run].wait(cause, seconds)

    def send(self, at: float, margin_seconds: float = 0.0, run: int = 0) -> None:
        self.shared.send(margin_seconds / SETTINGS.per_seconds)
        self.budgets[run].send(at)
        self.sends.append((run, at))

    def lost(self, cause: Cause, run: int = 0) -> float:
        return self.budgets[run].spending.lost[cause]


@given(steps)
def test_each_of_the_runs_at_once_accounts_for_all_that_the_ceiling_allowed(gaps) -> None:
    runs = Runs()
    now = 1000.0
    for run, gap, waited, margin in gaps:
        now += gap
        for cause, seconds in waited.items():
            runs.wait(cause, seconds, run)
        runs.send(now, margin, run)
    spent = [budget.spending for budget in runs.budgets]
    assert sum(spending.used for spending in spent) == len(gaps)
    for run, spending in enumerate(spent):
        own = [place for place, (sender, _) in enumerate(runs.sends) if sender == run]
        assert spending.used == len(own)
        if not own:
            assert spending.allowed == 0
            continue
        seconds = runs.sends[own[-1]][1] - runs.sends[own[0]][1]
        assert spending.allowed == pytest.approx(1 + seconds * 5, abs=1e-6)
        assert spending.allowed == pytest.approx(
            spending.used + sum(spending.lost.values()), abs=1e-6
        )
        between = own[-1] - own[0] + 1
        assert spending.lost[Cause.OTHER_RUNS] == between - len(own)
        assert all(spending.lost[cause] >= 0 for cause in Cause if cause is not Cause.LATE)


@pytest.mark.parametrize("cause", [Cause.HELD, *LOCAL])
def test_a_pause_is_charged_to_its_cause(cause: Cause) -> None:
    runs = Runs()
    runs.send(0.0)
    runs.wait(cause, 10.0)
    runs.send(10.2)
    assert runs.lost(cause) == pytest.approx(50)
    assert runs.lost(Cause.LATE) == pytest.approx(0)


def test_a_wait_that_cost_no_slot_is_charged_to_nobody() -> None:
    runs = Runs()
    runs.send(0.0)
    runs.wait(Cause.INPUT, 0.19)
    runs.send(0.2)
    assert sum(map(abs, runs.budgets[0].spending.lost.values())) == pytest.approx(0)


def test_a_wait_loses_nothing_while_another_run_sends() -> None:
    runs = Runs()
    runs.send(0.0)
    for number in range(1, 50):
        runs.send(number / 5, run=1)
    runs.wait(Cause.INPUT, 10.0)
    runs.send(10.0)
    assert runs.lost(Cause.OTHER_RUNS) == 49
    assert runs.lost(Cause.INPUT) == pytest.approx(0)


def test_a_stretched_window_costs_its_margin_once() -> None:
    runs = Runs()
    for number in range(301):
        runs.send(number * 60.6 / 300, 0.6)
    assert runs.lost(Cause.MARGIN) == pytest.approx(3.0)
    assert runs.lost(Cause.LATE) == pytest.approx(0.0, abs=1e-6)


def test_a_stretched_window_costs_each_of_the_runs_in_it_the_whole_margin() -> None:
    runs = Runs()
    for number in range(302):
        runs.send(number * 60.6 / 300, 0.6, run=number % 2)
    for run in (0, 1):
        assert runs.lost(Cause.MARGIN, run) == pytest.approx(3.0)
        assert runs.lost(Cause.LATE, run) == pytest.approx(0.0, abs=1e-6)


def test_what_is_caught_up_gives_back_what_was_late() -> None:
    runs = Runs()
    for at in (0.0, 0.8, 0.8, 0.8, 0.8, 1.0):
        runs.send(at)
    assert runs.lost(Cause.LATE) == pytest.approx(0.0)
