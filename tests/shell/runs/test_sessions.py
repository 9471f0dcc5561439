"""Several runs at once: in one session, which shares one ceiling, and in several."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from crash_scenario import REPLIES
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from scripted_server import ACCEPT, Play, Request, failure
from shared_workspace import PER_SECONDS, REQUESTS, SETTLE, Job, Workspace, cohort_of
from whole_push import Death, ExportSource

from engine.delivery.events import RunEvent, Sent, Waiting
from engine.errors import ExitStatus, LockHeldError
from engine.ledger.locks import sending_lock
from engine.model.cohort import Action, Cohort
from engine.pacing.settings import PacingSettings
from engine.report.history import all_runs
from engine.report.run_results import RunResult
from engine.runs.context import RunObservers
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.session import WorkspaceSession
from exports import Export, Row
from simulator.api import SlidingWindow

# Many runs, one ceiling.

POINTS = [
    f"{when} {write}"
    for write in ("recover", "settle_all", "begin", "begin_new", "intend", "conclude", "finish")
    for when in ("before", "inside", "after")
]
deaths = st.one_of(
    st.builds(Death, st.sampled_from([*POINTS, "sent", "arrived", "answered"]), st.integers(1, 9)),
    st.builds(Death, seconds=st.floats(0.0, 12.0, allow_nan=False)),
)
spans = st.tuples(st.integers(0, 9), st.integers(1, 12)).map(lambda s: range(s[0], s[0] + s[1]))


@dataclass(frozen=True)
class Process:
    """One start of all jobs at once, and what becomes of it."""

    weather: tuple[str, ...]
    death: Death | None
    signals: tuple[float, ...]
    pause: float
    leaves_at: float | None
    """When the session is left, whatever is under way."""
    resumes: int
    """How many others resume all unfinished runs at the same time."""


processes = st.builds(
    Process,
    st.lists(st.sampled_from(sorted(REPLIES)), max_size=12).map(tuple),
    deaths | st.none(),
    st.just(()) | st.floats(0.0, 12.0, allow_nan=False).map(lambda seconds: (seconds,)),
    st.sampled_from([0.0, 0.5, 2.9, 60.0]),
    st.none() | st.floats(0.0, 12.0, allow_nan=False),
    st.integers(0, 2),
)
rounds = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {"a": st.tuples(spans, st.none()), "b": st.tuples(spans, st.none())}
            | {"c": st.tuples(spans, st.sampled_from(Action))}
        ),
        st.lists(processes, max_size=2),
    ),
    min_size=1,
    max_size=2,
)


def assert_all_ends_well(
    folder: Path, plan: Sequence[tuple[dict[str, Any], Sequence[Process]]]
) -> None:
    workspace = Workspace(folder)
    wanted: dict[str, set[str]] = {name: set() for name in "abc"}
    for number, (named, troubled) in enumerate(plan):
        jobs = [Job(name, uids, action) for name, (uids, action) in named.items()]
        for job in jobs:
            wanted[job.cohort] = job.applied_to(wanted[job.cohort])
        for process in troubled:
            workspace.pushes.machine.pause(process.pause)
            workspace.api.script = partial(_meet, iter(process.weather))
            workspace.run(
                jobs,
                death=process.death,
                stops_at=process.signals,
                leaves_at=process.leaves_at,
                resumes=process.resumes,
            )
        workspace.api.script = lambda _: ACCEPT
        for _ in range(3):
            workspace.pushes.machine.pause(100)
            results = workspace.run(jobs)
            if all(result.exit_status is ExitStatus.ACCEPTED for result in results):
                assert len(results) == len(jobs)
                break
        else:
            raise AssertionError([result.accounts.reason for result in results])
        workspace.pushes.machine.pause(100)
        for name in named:
            assert workspace.api.members_of(name) == wanted[name], (number, name)
    event(f"{len(workspace.api.arrived) // 10 * 10} requests")


def _meet(weather: Iterator[str], request: Request) -> Play:
    met = next(weather, "fine")
    # A single uid that is too large would be written off, and rightly. What comes very late may
    # come after the next run of the cohort, which no run can help.
    late = met == "500 applied much later"
    return ACCEPT if late or (met == "413" and len(request.uids) == 1) else REPLIES[met]


SLOW_REQUEST_BEFORE_A_RESTART = [
    (
        {"a": (range(1), None), "b": (range(1), None), "c": (range(1), Action.ADD)},
        [
            Process(("slow", *["408 applied"] * 4), Death(seconds=4.0), (), 0.0, None, 0),
            Process((), Death(seconds=1.0), (), 0.0, None, 0),
        ],
    )
]
"""The request that was sent first ends last: the next process needs the ends and the sends."""


@given(rounds)
@example(SLOW_REQUEST_BEFORE_A_RESTART)
@settings(max_examples=6)
def test_runs_at_once_in_one_session(plan: Any) -> None:  # noqa: ANN401 - see `rounds`
    with TemporaryDirectory() as folder:
        assert_all_ends_well(Path(folder), plan)


@pytest.mark.slow
@given(rounds)
@settings(max_examples=1000)
def test_many_runs_at_once_in_one_session(plan: Any) -> None:  # noqa: ANN401 - see `rounds`
    with TemporaryDirectory() as folder:
        assert_all_ends_well(Path(folder), plan)


def test_two_runs_at_once_share_the_pace_and_each_event_names_its_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    jobs = [Job(name, range(30), Action.ADD) for name in "ab"]
    results = workspace.run(jobs)
    assert [result.exit_status for result in results] == [ExitStatus.ACCEPTED] * 2
    first_half = [cohort_of(request) for request in workspace.api.arrived[:10]]
    assert {"a", "b"} == set(first_half), "they take turns"
    sent = [told.source for told in workspace.told if isinstance(told.event, Sent)]
    assert {(source.workspace, source.cohort_id) for source in sent} == {("WS", "a"), ("WS", "b")}
    names = {result.accounts.cohort_id: result.accounts.run for result in results}
    assert all(source.run == names[source.cohort_id] for source in sent)


def test_each_of_the_runs_at_once_tells_its_own_use_of_the_ceiling(tmp_path: Path) -> None:
    """The API counts for itself: what each has sent, and the others meanwhile."""
    workspace = Workspace(tmp_path)
    jobs = [Job(name, range(30 if name == "a" else 15), Action.ADD) for name in "abc"]
    results = workspace.run(jobs)
    arrived = [cohort_of(request) for request in workspace.api.arrived]
    assert sum(result.accounts.ceiling_spending.used for result in results) == len(arrived) == 20
    for result in results:
        spent, name = result.accounts.ceiling_spending, result.accounts.cohort_id
        places = [place for place, sender in enumerate(arrived) if sender == name]
        assert spent.used == result.accounts.requests.sent == len(places)
        assert spent.other_runs == places[-1] - places[0] + 1 - len(places) > 0
        first, last = (workspace.api.arrived[places[end]].at for end in (0, -1))
        allowed = 1 + (last - first) * REQUESTS / PER_SECONDS
        assert spent.allowed == pytest.approx(allowed, abs=0.01)
        assert spent.allowed == pytest.approx(sum(astuple(spent)[1:]), abs=0.01)
        assert 0.8 < result.accounts.ceiling_use <= 1.01


def lower_ceiling(requests: int) -> Callable[[Request], Play]:
    """Answer 429 to what exceeds so many requests in a window."""
    window = SlidingWindow(PacingSettings(requests, PER_SECONDS))
    refusal = Play(429, failure("Rate limit exceeded"), applied_after=None)
    return lambda request: ACCEPT if window.admit(request.at) else refusal


@pytest.mark.parametrize("is_one_session", [True, False])
def test_a_lower_ceiling_is_known_to_the_later_runs_of_a_session(
    tmp_path: Path, *, is_one_session: bool
) -> None:
    """Between the two another process may send, so that the requests are counted anew."""
    workspace = Workspace(tmp_path)
    workspace.api.script = lower_ceiling(3)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        await Job("a", range(90), Action.ADD).start(session, observers)
        await asyncio.sleep(SETTLE)
        async with workspace.another_session() as other:
            later = session if is_one_session else other
            result: RunResult = await Job("b", range(6), Action.ADD).start(later, observers)
        return result

    ended = workspace.live(start)
    assert ended.result is not None
    found = ended.result.accounts.ceiling_found
    assert (found is not None and found <= 4) if is_one_session else found is None
    workspace.assert_laws()


def test_runs_of_one_cohort_in_one_session_follow_each_other(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    jobs = [Job("a", range(9), Action.ADD), Job("a", range(9, 18), Action.ADD)]
    results = workspace.run(jobs)
    assert [result.exit_status for result in results] == [ExitStatus.ACCEPTED] * 2
    runs = workspace.query("SELECT batch.run FROM attempt JOIN batch USING (run, batch)")
    assert runs == sorted(runs)
    assert len(workspace.api.members_of("a")) == 18


# What a run holds, and what it leaves to others.


def test_a_wait_for_changes_to_settle_lets_others_send(tmp_path: Path) -> None:
    """A mirror waits; a push that may not wait sends from another process meanwhile."""
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(6), None)])
    workspace.pushes.machine.pause(1)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        waits = asyncio.Event()

        def observe(told: RunEvent) -> None:
            if isinstance(told.event, Waiting):
                waits.set()

        waiting = asyncio.create_task(
            Job("a", range(3), None).start(session, replace(observers, observe=observe))
        )
        await waits.wait()
        async with workspace.another_session() as other:
            pushed = await Job("b", range(6), Action.ADD).start(other, RunObservers())
        assert pushed.exit_status is ExitStatus.ACCEPTED
        assert not waiting.done()
        return await waiting

    ended = workspace.live(start)
    assert ended.exit_status is ExitStatus.ACCEPTED, (ended.error, ended.result)
    assert [cohort_of(request) for request in workspace.api.arrived][-3:] == ["b", "b", "a"]
    assert len(workspace.api.members_of("a")) == 3
    workspace.assert_laws()


def test_a_session_leaves_the_run_of_a_living_one_alone(tmp_path: Path) -> None:
    """A request is under way in one process while another plans, and is refused the cohort."""
    workspace = Workspace(tmp_path)
    workspace.run([Job("b", range(3), None)])
    workspace.pushes.machine.pause(100)
    workspace.api.script = lambda _: Play(seconds=3.0)
    under_way = "SELECT outcome, status FROM attempt JOIN run USING (run) WHERE outcome IS NULL"

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        sending = asyncio.create_task(Job("a", range(3), Action.ADD).start(session, observers))
        await asyncio.sleep(1)
        assert workspace.query(under_way) == [(None, "running")]
        async with workspace.another_session() as other:
            source = ExportSource(Export([[Row("b-0000")]]))
            request = MirrorRequest(source, source.spec, Cohort("b", "Cohort b"))
            planned = await mirror(request, other, sends=False)
            assert planned.exit_status is ExitStatus.ACCEPTED
            for job in (Job("a", range(3), Action.ADD), Job("c", range(3), Action.ADD)):
                with pytest.raises(LockHeldError):
                    await job.start(other, RunObservers())
        assert workspace.query(under_way) == [(None, "running")]
        assert [each.status for each in all_runs(workspace.pushes.state)].count("running") == 1
        return await sending

    ended = workspace.live(start)
    assert ended.exit_status is ExitStatus.ACCEPTED
    workspace.assert_laws()


def test_a_session_ends_the_runs_of_processes_that_are_gone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(3), Action.ADD)], death=Death("arrived"))
    assert workspace.query("SELECT status FROM run") == [("running",)]
    workspace.run([Job("b", range(3), Action.ADD)])
    died = ("incomplete", "the process died")
    assert workspace.query("SELECT status, reason FROM run ORDER BY run")[0] == died
    assert workspace.query("SELECT outcome FROM attempt ORDER BY id")[0] == ("unconfirmed",)


def test_processes_that_wait_for_each_other_send_in_turn_under_one_ceiling(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        async with workspace.another_session() as other:
            results = await asyncio.gather(
                Job("a", range(30), Action.ADD).start(session, observers),
                Job("b", range(30), Action.ADD, 600.0).start(other, RunObservers()),
            )
        assert [result.exit_status for result in results] == [ExitStatus.ACCEPTED] * 2
        accounts: RunResult = results[1]
        return accounts

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    senders = [cohort_of(request) for request in workspace.api.arrived]
    assert senders == sorted(senders), "one at a time"
    assert (len(workspace.api.members_of("a")), len(workspace.api.members_of("b"))) == (30, 30)
    workspace.assert_laws()


def test_a_plan_that_cannot_be_sent_in_time_ends_with_its_accounts(tmp_path: Path) -> None:
    """Another process begins to send while a mirror, which is not to wait, plans."""
    workspace = Workspace(tmp_path)
    other = sending_lock(workspace.pushes.ledger.parent)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        def planned(_: object) -> None:
            assert other.try_acquire()

        job = Job("a", range(9), None)
        result: RunResult = await job.start(session, replace(observers, planned=planned))
        return result

    ended = workspace.live(start)
    other.release()
    assert ended.result is not None
    accounts = ended.result.accounts
    assert (ended.exit_status, accounts.status) == (ExitStatus.INCOMPLETE, "incomplete")
    assert "is in use by process" in (accounts.reason or "")
    assert (accounts.uids.planned, accounts.uids.pending) == (9, 9)
    assert not workspace.api.arrived
    workspace.run([Job("a", range(9), None)])
    assert len(workspace.api.members_of("a")) == 9
