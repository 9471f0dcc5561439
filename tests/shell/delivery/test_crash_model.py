"""Processes that die anywhere, as often as you like: the cohort ends exactly as it should."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from crash_scenario import REPLIES, CrashScenario, Process, Run
from hypothesis import event, given, settings
from hypothesis import strategies as st
from whole_push import Death

from engine.model.cohort import Action

WRITES = ("recover", "settle_all", "begin", "recent_sends")
WRITES += ("intend", "conclude", "conclude split", "change", "change split", "finish", "store")
REQUESTS = ("begun", "sent", "arrived", "answered")
POINTS = [*(f"{when} {write}" for write in WRITES for when in ("before", "inside", "after"))]
POINTS += REQUESTS
"""Everywhere that a process may die: around each write, and along the way of each request."""

ROUGH = ("fine", "500 applied", "fine", "reset applied late", "429", "413", "lie", "hang", "fine")
POISON = frozenset({"u0009"})
UIDS = range(15)


@pytest.mark.parametrize(
    "action", [Action.ADD, pytest.param(Action.REMOVE, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "point",
    [
        # To the file, it is the same whether a write has begun or only its end is lacking.
        pytest.param(each, marks=pytest.mark.slow) if each.startswith("before") else each
        for each in POINTS
    ],
)
def test_a_process_that_dies_at_each_point_each_time_it_gets_there(
    tmp_path: Path, point: str, action: Action
) -> None:
    for nth in count(1):
        scenario = CrashScenario(tmp_path / str(nth), POISON, most_uids=3)
        if action is Action.REMOVE:
            scenario.fill(UIDS)
        # The second process recovers, and is stopped before it sends anything.
        processes = (Process(ROUGH, Death(point, nth)), Process(signals=(0.0,)))
        scenario.carry_out(Run(action, UIDS, processes, oversized=True))
        if not scenario.deaths:
            break
        assert scenario.lost_answers or point != "arrived", "it was to die before the answer"
    assert nth > 1, "no process ever gets there"


seconds = st.floats(0.0, 12.0, allow_nan=False)
often = [point for point in POINTS if point in REQUESTS or point.endswith(("intend", "conclude"))]
deaths = st.one_of(
    st.builds(Death, st.sampled_from(often), st.integers(1, 12)),
    st.builds(Death, st.sampled_from(POINTS)),
    st.builds(Death, seconds=seconds),
)
processes = st.builds(
    Process,
    replies=st.lists(st.sampled_from(sorted(REPLIES)), max_size=12).map(tuple),
    death=deaths | st.none(),
    signals=st.just(()) | st.lists(seconds, max_size=2).map(sorted).map(tuple),
    reboots=st.booleans(),
    pause=st.sampled_from([0.0, 0.5, 2.9, 3.1, 60.0]),
    uids_per_payload=st.integers(2, 6),
)
spans = st.tuples(st.integers(0, 12), st.integers(1, 16)).map(lambda s: range(s[0], s[0] + s[1]))
runs = st.builds(
    Run,
    st.sampled_from(Action),
    spans,
    st.lists(processes, min_size=1, max_size=4).map(tuple),
    oversized=st.booleans(),
)


def assert_scenario_ends_well(plan: list[Run], poison: frozenset[str], most_uids: int) -> None:
    with TemporaryDirectory() as folder:
        scenario = CrashScenario(Path(folder), poison, most_uids)
        for run in plan:
            scenario.carry_out(run)
        event(f"{min(scenario.deaths, 5)} deaths")
        event(f"{min(scenario.lost_answers, 3)} answers lost with a process")


scenarios = given(
    st.lists(runs, min_size=1, max_size=3),
    st.sets(st.sampled_from(["u0003", "u0009", "u0010"])).map(frozenset),
    st.integers(1, 6),
)


@scenarios
def test_processes_that_crash(plan: list[Run], poison: frozenset[str], most_uids: int) -> None:
    assert_scenario_ends_well(plan, poison, most_uids)


@pytest.mark.slow
@scenarios
@settings(max_examples=3000)
def test_a_year_of_crashes(plan: list[Run], poison: frozenset[str], most_uids: int) -> None:
    assert_scenario_ends_well(plan, poison, most_uids)
