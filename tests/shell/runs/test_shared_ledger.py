"""The ledger that the runs of a session share: opened once, and again when its file is gone."""

import asyncio
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest
from shared_workspace import Job, Workspace
from whole_push import Death

from engine.delivery.stop import StopSwitch
from engine.errors import CohortSyncError, ExitStatus, IncompleteError, LockHeldError
from engine.ledger.locks import sending_lock
from engine.ledger.run_records import RunTotals
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.runs import RunStore
from engine.ledger.sqlite.send_log import SendLog
from engine.model.cohort import Action, CohortKey
from engine.report.run_results import RunResult
from engine.runs.context import RunObservers
from engine.runs.session import WorkspaceSession
from engine.runs.shared_ledger import LockWait

Take = Callable[[Workspace, bytes], None]


class _DoneError(CohortSyncError):
    """The test's process has ended."""


# A state folder that is removed or replaced while a session is open.


def removed(workspace: Workspace, _: bytes) -> None:
    shutil.rmtree(workspace.pushes.state)


def moved_away(workspace: Workspace, _: bytes) -> None:
    workspace.pushes.state.rename(workspace.folder / "away")


def ledger_removed(workspace: Workspace, _: bytes) -> None:
    workspace.pushes.ledger.unlink()


def replaced(workspace: Workspace, empty: bytes) -> None:
    shutil.rmtree(workspace.pushes.ledger.parent)
    workspace.pushes.ledger.parent.mkdir()
    workspace.pushes.ledger.write_bytes(empty)


TAKES = pytest.mark.parametrize("take", [removed, moved_away, ledger_removed, replaced])


@TAKES
def test_the_next_run_opens_the_ledger_anew_and_keeps_the_ceiling(
    tmp_path: Path, take: Take
) -> None:
    """The ceiling holds even if the ledger that has the latest requests is not put back."""
    workspace = Workspace(tmp_path)
    empty = workspace.pushes.ledger.read_bytes()

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        for cohort in "abc":
            result: RunResult = await Job(cohort, range(15), Action.ADD).start(session, observers)
            assert result.exit_status is ExitStatus.ACCEPTED, cohort
            if cohort != "c":
                take(workspace, empty)
                shutil.rmtree(workspace.folder / "away", ignore_errors=True)
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    assert [len(workspace.api.members_of(cohort)) for cohort in "abc"] == [15, 15, 15]
    workspace.assert_laws()


def test_the_ceiling_holds_even_if_the_ledger_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    empty = workspace.pushes.ledger.read_bytes()
    recent_sends = SendLog.recent_sends

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        await Job("a", range(15), Action.ADD).start(session, observers)
        replaced(workspace, empty)
        failures = [OSError("a failing disk")]

        async def fail_once(log: SendLog, count: int) -> list[tuple[float, float]]:
            if failures:
                raise failures.pop()
            return await recent_sends(log, count)

        with patch.object(SendLog, "recent_sends", fail_once):
            result: RunResult = await Job("b", range(15), Action.ADD).start(session, observers)
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    workspace.assert_laws()


@TAKES
def test_runs_that_use_a_ledger_that_is_gone_end_before_it_is_opened_anew(
    tmp_path: Path, take: Take
) -> None:
    """One run waits for changes to settle, and another sends."""
    workspace = Workspace(tmp_path)
    empty = workspace.pushes.ledger.read_bytes()
    workspace.run([Job("a", range(6), None)])
    workspace.pushes.machine.pause(1)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        jobs = [Job("a", range(3), None), Job("b", range(90), Action.ADD)]
        under_way = [asyncio.create_task(job.start(session, observers)) for job in jobs]
        await asyncio.sleep(5)
        take(workspace, empty)
        result: RunResult = await Job("c", range(15), Action.ADD).start(session, observers)
        for task in under_way:
            assert task.done()
            accounts = task.result().accounts
            assert accounts.status == "incomplete"
            assert "was removed or replaced" in accounts.reason
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    assert len(workspace.api.members_of("c")) == 15
    workspace.assert_laws()


def test_a_stop_ends_the_wait_for_runs_that_use_a_ledger_that_is_gone(tmp_path: Path) -> None:
    """Each run hears its own switch: the one that opens the ledger, and the one behind it."""
    workspace = Workspace(tmp_path)
    empty = workspace.pushes.ledger.read_bytes()

    async def start(session: WorkspaceSession, _: RunObservers) -> RunResult:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        switches = [StopSwitch(), StopSwitch()]
        async with session._shared.ledger.used(LockWait(0.0, StopSwitch(), lambda _: None)):
            replaced(workspace, empty)
            tasks = [
                asyncio.create_task(
                    Job(cohort, range(3), Action.ADD).start(session, RunObservers(switch=switch))
                )
                for cohort, switch in zip("ab", switches, strict=True)
            ]
            for seconds, switch, task in ((5, switches[1], tasks[1]), (9, switches[0], tasks[0])):
                loop.call_later(seconds, switch.pull, "a signal")
                with pytest.raises(IncompleteError, match="a signal"):
                    await task
            assert round(loop.time() - begun) == 14
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)


# Runs that begin at once.


def test_each_run_waits_for_another_process_as_long_as_it_may_itself(tmp_path: Path) -> None:
    """The ledger does not exist, and a program of version 0.1 may be about to create it."""
    workspace = Workspace(tmp_path)
    workspace.pushes.ledger.unlink()
    other = sending_lock(workspace.pushes.ledger.parent)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        assert other.try_acquire()
        loop = asyncio.get_running_loop()
        switch = StopSwitch()
        jobs = [
            (Job("a", range(3), Action.ADD, math.inf), observers),
            (Job("b", range(3), Action.ADD), observers),
            (Job("c", range(3), Action.ADD, 30.0), observers),
            (Job("d", range(3), Action.ADD, math.inf), RunObservers(switch=switch)),
        ]
        begun = loop.time()
        ends: list[float] = []
        tasks = [asyncio.create_task(job.start(session, each)) for job, each in jobs]
        for task in tasks:
            task.add_done_callback(lambda _: ends.append(loop.time() - begun))
        loop.call_later(10, switch.pull, "a signal")
        loop.call_later(60, other.release)
        await asyncio.wait(tasks)
        first, second, third, fourth = tasks
        assert [round(end) for end in ends[:3]] == [0, 10, 30]
        assert isinstance(second.exception(), LockHeldError)
        assert isinstance(third.exception(), LockHeldError)
        stopped = fourth.exception()
        assert isinstance(stopped, IncompleteError)
        assert stopped.message.startswith("a signal while it waited for process ")
        result: RunResult = first.result()
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    assert len(workspace.api.members_of("a")) == 3


def recovering_slowly() -> AbstractContextManager[object]:
    """Let a recovery, which takes the cohort's lock, last as on a slow disk."""
    recover = Ledger.recover

    async def recover_slowly(ledger: Ledger, key: CohortKey | None = None) -> None:
        await asyncio.sleep(5)
        await recover(ledger, key)

    return patch.object(Ledger, "recover", recover_slowly)


def test_a_run_is_not_refused_a_cohort_because_its_own_session_recovers_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for cohort in "ab":
        workspace.run([Job(cohort, range(6), Action.ADD)], death=Death("arrived"))

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        results = await asyncio.gather(
            *(Job(cohort, range(6), Action.ADD).start(session, observers) for cohort in "cab")
        )
        assert [each.exit_status for each in results] == [ExitStatus.ACCEPTED] * 3
        first: RunResult = results[0]
        return first

    with recovering_slowly():
        assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    workspace.assert_laws()


def test_nor_is_a_run_that_begins_during_the_recovery(tmp_path: Path) -> None:
    """A process dies while the session is open, and its run is recovered before the next send."""
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(6), Action.ADD)], death=Death("arrived"))

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        await Job("b", range(6), Action.ADD).start(session, observers)
        workspace.query("UPDATE run SET status = 'running' WHERE cohort_id = 'a'")
        with recovering_slowly():
            sending = asyncio.create_task(Job("c", range(6), Action.ADD).start(session, observers))
            await asyncio.sleep(7)
            result: RunResult = await Job("a", range(6), Action.ADD).start(session, observers)
            assert (await sending).exit_status is ExitStatus.ACCEPTED
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    workspace.assert_laws()


# The preparation of a ledger.


def test_a_ledger_is_prepared_by_the_next_run_if_the_first_is_cancelled(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(6), Action.ADD)], death=Death("arrived"))
    status = "SELECT status FROM run WHERE cohort_id = 'a'"

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        first = asyncio.create_task(Job("b", range(3), None).start(session, observers))
        with recovering_slowly():
            await asyncio.sleep(1)
            first.cancel()
            await asyncio.wait([first])
        assert workspace.query(status) == [("running",)]
        async with session._shared.ledger.used(LockWait(0.0, StopSwitch(), lambda _: None)):
            assert workspace.query(status) == [("incomplete",)]
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_count_of_missing_totals_ends_with_a_stop_and_delays_no_other_run(
    tmp_path: Path, *, is_stopped: bool
) -> None:
    workspace = Workspace(tmp_path)
    for cohort in "abc":
        workspace.run([Job(cohort, range(3), Action.ADD)])
    workspace.query("DELETE FROM run_totals")
    count_totals = RunStore.count_totals
    switch = StopSwitch()

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        async def count_slowly(store: RunStore, run: int) -> RunTotals:
            assert not session._shared.sending_lock.is_held
            await asyncio.sleep(100)
            return await count_totals(store, run)

        loop = asyncio.get_running_loop()
        with (
            patch.object(RunStore, "count_totals", count_slowly),
            # As for a ledger of an earlier version, which the holder of the sending lock migrates.
            patch("engine.ledger.sqlite.ledger.is_current", return_value=False),
        ):
            observers = RunObservers(switch=switch)
            first = asyncio.create_task(Job("d", range(3), Action.ADD).start(session, observers))
            await asyncio.sleep(10)
            begun = loop.time()
            second = await Job("e", range(3), Action.ADD).start(session, RunObservers())
            assert second.exit_status is ExitStatus.ACCEPTED
            assert loop.time() - begun < 50
            if is_stopped:
                switch.pull("a signal")
            await asyncio.wait([first])
        assert (loop.time() - begun < 100) is is_stopped
        return second

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    [(counted,)] = workspace.query("SELECT count(*) FROM run_totals WHERE run <= 3")
    assert counted == (1 if is_stopped else 3)


def test_whoever_releases_the_sending_lock_the_next_sender_counts_all_sends(
    tmp_path: Path,
) -> None:
    """The one who opens the ledger may be the last to hold the lock."""
    workspace = Workspace(tmp_path)
    waiting = LockWait(0.0, StopSwitch(), lambda _: None)

    async def start(session: WorkspaceSession, _: RunObservers) -> RunResult:
        async with session._shared.ledger.used(waiting) as ledger:
            pacers = []
            for is_shared in (True, True, False):
                await session.hold_sending(waiting)
                pacers.append((await session.channel(ledger)).pacer)
                if is_shared:
                    await session._shared.sending_lock.acquire(waiting.patience)
                session.release_sending()
            first, second, third = pacers
            assert first is second is third
            session._shared.sending_lock.release()
            session._shared.sending_lock.release()
            await session.hold_sending(waiting)
            assert (await session.channel(ledger)).pacer is not third
            session.release_sending()
        raise _DoneError("done")

    assert isinstance(workspace.live(start).error, _DoneError)
