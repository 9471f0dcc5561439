"""A session that is left while runs are under way, and what it refuses afterwards."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_server import Play
from shared_workspace import Job, Workspace

from engine.delivery.events import RunEvent, Sent
from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, LedgerError, UsageError
from engine.ledger.locks import cohort_lock
from engine.model.cohort import Action, CohortKey
from engine.report.history import all_runs
from engine.report.run_results import RunResult
from engine.runs.context import RunObservers
from engine.runs.session import WorkspaceSession

CLOSED = "the engine was closed"


class _DoneError(CohortSyncError):
    """The test's process has ended."""


def test_a_session_that_is_left_stops_its_runs_and_waits_for_their_ends(tmp_path: Path) -> None:
    """One run sends, one waits to settle, one for its turn, and one for another process."""
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(6), None)])
    workspace.pushes.machine.pause(1)
    switch = StopSwitch()

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        other = cohort_lock(session.folder, CohortKey("partner", "c"))
        assert other.try_acquire()
        jobs = {
            "settles": Job("a", range(3), None),
            "sends": Job("b", range(90), Action.ADD),
            "takes turns": Job("b", range(90, 99), Action.ADD),
            "waits": Job("c", range(3), Action.ADD, math.inf),
        }
        observers = RunObservers(switch=switch)
        async with workspace.another_session() as left:
            tasks = {
                name: asyncio.create_task(job.start(left, observers)) for name, job in jobs.items()
            }
            await asyncio.sleep(5)
        assert all(task.done() for task in tasks.values())
        other.release()
        for name in ("settles", "sends"):
            accounts = tasks[name].result().accounts
            assert (accounts.status, accounts.reason) == ("incomplete", CLOSED)
        for name in ("takes turns", "waits"):
            error = tasks[name].exception()
            assert isinstance(error, IncompleteError)
            assert error.message.startswith(CLOSED)
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)
    assert not switch.is_pulled, "it is the caller's, and may be that of other sessions"
    workspace.assert_laws()
    workspace.pushes.machine.pause(100)
    jobs = [Job("a", range(3), None), Job("b", range(90), Action.ADD)]
    assert {each.exit_status for each in workspace.run(jobs)} == {ExitStatus.ACCEPTED}
    assert {len(workspace.api.members_of(name)) for name in "ab"} == {3, 90}


@pytest.mark.parametrize("is_stopped", [False, True])
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_requests_in_flight_are_awaited_unless_the_exit_is_cancelled(
    tmp_path: Path, *, is_stopped: bool, is_cancelled: bool
) -> None:
    """Also if the run was stopped before: the exit does not stop it a second time."""
    workspace = Workspace(tmp_path)
    workspace.api.script = lambda _: Play(seconds=2.5)
    switch = StopSwitch()

    async def leave() -> None:
        sent = asyncio.Event()

        def observe(told: RunEvent) -> None:
            if isinstance(told.event, Sent):
                sent.set()

        async with workspace.another_session() as left:
            job = Job("a", range(3), Action.ADD)
            observers = RunObservers(observe=observe, switch=switch)
            run = asyncio.create_task(job.start(left, observers))
            await sent.wait()
            if is_stopped:
                switch.pull("a signal")
        assert run.done()

    async def start(_: WorkspaceSession, __: RunObservers) -> RunResult:
        leaving = asyncio.create_task(leave())
        await asyncio.sleep(1)
        if is_cancelled:
            leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled() is is_cancelled
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)
    workspace.assert_laws()
    [accounts] = all_runs(workspace.pushes.state)
    assert (accounts.uids.accepted, accounts.uids.unconfirmed) == (
        (0, 3) if is_cancelled else (3, 0)
    )


def test_no_run_begins_once_a_session_was_left(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    async def start(_: WorkspaceSession, observers: RunObservers) -> RunResult:
        async with workspace.another_session() as left:
            pass
        result: RunResult = await Job("a", range(3), Action.ADD).start(left, observers)
        return result

    error = workspace.live(start).error
    assert isinstance(error, UsageError)
    assert error.message == CLOSED
    assert error.hint


def test_a_second_event_loop_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "file").touch()
    config = replace(workspace.pushes.config(), state_dir=tmp_path / "file")
    session = WorkspaceSession(config)
    job = Job("a", range(3), Action.ADD)
    with pytest.raises(LedgerError):
        asyncio.run(job.start(session, RunObservers()))
    with pytest.raises(UsageError, match="another event loop") as caught:
        asyncio.run(job.start(session, RunObservers()))
    assert caught.value.hint


@pytest.mark.parametrize("pulls", [1, 2])
@pytest.mark.parametrize("cause", ["the session is left", "the ledger is removed"])
def test_the_first_signal_after_a_stop_by_the_session_still_cancels_nothing(
    tmp_path: Path, cause: str, pulls: int
) -> None:
    workspace = Workspace(tmp_path)
    workspace.api.script = lambda _: Play(seconds=2.5)
    switch = StopSwitch()
    results: list[RunResult] = []

    async def leave() -> None:
        sent = asyncio.Event()

        def observe(told: RunEvent) -> None:
            if isinstance(told.event, Sent):
                sent.set()

        async with workspace.another_session() as left:
            observers = RunObservers(observe=observe, switch=switch)
            run = asyncio.create_task(Job("a", range(3), Action.ADD).start(left, observers))
            await sent.wait()
            if cause == "the ledger is removed":
                workspace.pushes.ledger.unlink()
                await Job("b", range(3), Action.ADD).start(left, RunObservers())
        results.append(run.result())

    async def start(_: WorkspaceSession, __: RunObservers) -> RunResult:
        leaving = asyncio.create_task(leave())
        await asyncio.sleep(1)
        for _number in range(pulls):
            switch.pull("a signal")
        await leaving
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)
    uids = results[0].accounts.uids
    assert (uids.accepted, uids.unconfirmed) == ((3, 0) if pulls == 1 else (0, 3))
