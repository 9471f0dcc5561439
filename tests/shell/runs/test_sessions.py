"""Several runs at once: in one session, which shares one ceiling, and in several."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson
import pytest
from far_side import ACCEPT, FarSide, Play, Request, Session
from hypothesis import event, given, settings
from hypothesis import strategies as st
from night_of_crashes import WEATHER
from whole_push import Death, Ended, ExportSource, Pushes

from engine.delivery.events import RunEvent, Sent, Waiting
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.errors import CohortSyncError, ExitStatus, LockHeldError
from engine.ledger.locks import sending_lock
from engine.model.cohort import Action, Cohort
from engine.pacing.settings import PacingSettings
from engine.planning.guards import GuardSettings
from engine.report.history import all_runs
from engine.report.result import RunResult
from engine.runs.context import RunObservers
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.push import PushRequest, push
from engine.runs.session import WorkspaceSession
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row

REQUESTS, PER_SECONDS = 6, 3.0
SETTLE = 20.0


class Api(FarSide):
    """A workspace's cohorts: uid `a-0001` belongs to cohort `a`."""

    def __init__(self) -> None:
        super().__init__()
        self.cohorts: dict[str, FarSide] = {}

    def session(self, timeout: aiohttp.ClientTimeout) -> Session:
        return Session(self, timeout.connect)

    def begin(self, data: bytes) -> tuple[Request, Play]:
        cohort = self.cohort(orjson.loads(data)["parameters"]["cohort_id"])
        cohort.script = self.script
        return cohort.begin(data)

    def arrive(self, request: Request, play: Play) -> None:
        self.arrived.append(request)
        self.cohort(cohort_of(request)).arrive(request, play)

    def cohort(self, name: str) -> FarSide:
        return self.cohorts.setdefault(name, FarSide())

    def members_of(self, name: str) -> set[str]:
        """Return who is in once everything is applied."""
        self.cohort(name).catch_up()
        return self.cohort(name).members

    def assert_one_ceiling(self) -> None:
        """Whatever sent them: no window holds more requests than it may."""
        times = [request.at for request in self.arrived]
        for early, late in zip(times, times[REQUESTS:], strict=False):
            assert late - early > PER_SECONDS


def cohort_of(request: Request) -> str:
    return request.uids[0].partition("-")[0]


@dataclass(frozen=True)
class Job:
    """A run of one cohort, and what the cohort ought to hold when it has ended."""

    cohort: str
    uids: range
    action: Action | None
    """None for a mirror."""
    wait_seconds: float = 0.0

    @property
    def names(self) -> list[str]:
        return [f"{self.cohort}-{number:04}" for number in self.uids]

    def start(self, session: WorkspaceSession, observers: RunObservers) -> Any:  # noqa: ANN401 - a coroutine
        cohort = Cohort(self.cohort, f"Cohort {self.cohort}")
        source = ExportSource(Export([[Row(name) for name in self.names]]), f"{self}.csv")
        if self.action is None:
            wanted = MirrorRequest(source, source.spec, cohort)
            return mirror(replace(wanted, wait_seconds=self.wait_seconds), session, observers)
        request = PushRequest(source, source.spec, cohort, self.action)
        return push(replace(request, wait_seconds=self.wait_seconds), session, observers)

    def applied_to(self, members: set[str]) -> set[str]:
        if self.action is None:
            return set(self.names)
        added = self.action is Action.ADD
        return members | set(self.names) if added else members - set(self.names)


class _DoneError(CohortSyncError):
    """All runs have ended."""


@dataclass
class Workspace:
    """A state folder, and the processes that work on it."""

    folder: Path
    api: Api = field(default_factory=Api)

    def __post_init__(self) -> None:
        self.pushes = Pushes(
            self.folder,
            self.api,
            uids_per_payload=3,
            pacing=PacingSettings(REQUESTS, PER_SECONDS),
            delivery=DeliverySettings(max_in_flight=4, timeout_seconds=5.0, drain_seconds=3.0),
            retry=RetrySettings(max_attempts=3),
            mirroring=MirrorSettings(settle_seconds=SETTLE),
            guards=GuardSettings(max_removals=1.0, max_additions=1e9),
        )
        self.told: list[RunEvent] = []

    def run(
        self,
        jobs: Sequence[Job],
        *,
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
    ) -> list[RunResult]:
        """Run all jobs at once in one session; return the results, none if the process dies."""
        results: list[RunResult] = []

        async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
            observers = replace(observers, observe=self.told.append)
            results.extend(await asyncio.gather(*(job.start(session, observers) for job in jobs)))
            raise _DoneError("done")

        ended = self.live(start, death, stops_at)
        if not ended.died and not isinstance(ended.error, _DoneError):
            raise AssertionError from ended.error
        self.assert_laws()
        return results

    def live(
        self,
        start: Callable[[WorkspaceSession, RunObservers], Coroutine[Any, Any, RunResult]],
        death: Death | None = None,
        stops_at: tuple[float, ...] = (),
    ) -> Ended:
        """Run one process."""
        return self.pushes._run(start, death, stops_at)

    def assert_laws(self) -> None:
        self.api.assert_one_ceiling()
        for accounts in all_runs(self.pushes.state):
            assert accounts.imbalance is None
            assert accounts.status != "running"

    def another_session(self) -> WorkspaceSession:
        """Return a session as of another process: locks exclude the two from each other."""
        return WorkspaceSession(self.pushes.config(), clock=self.pushes.machine)

    def query(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.pushes.ledger)) as ledger:
            return ledger.execute(sql).fetchall()


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


processes = st.builds(
    Process,
    st.lists(st.sampled_from(sorted(WEATHER)), max_size=12).map(tuple),
    deaths | st.none(),
    st.just(()) | st.floats(0.0, 12.0, allow_nan=False).map(lambda seconds: (seconds,)),
    st.sampled_from([0.0, 0.5, 2.9, 60.0]),
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
            workspace.run(jobs, death=process.death, stops_at=process.signals)
        workspace.api.script = lambda _: ACCEPT
        for _ in range(3):
            workspace.pushes.machine.pause(100)
            results = workspace.run(jobs)
            if all(result.exit_status is ExitStatus.ACCEPTED for result in results):
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
    return ACCEPT if late or (met == "413" and len(request.uids) == 1) else WEATHER[met]


@given(rounds)
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
