"""Resuming beside other runs, in one session and in several: a run is resumed once."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from shared_workspace import Job, Workspace
from whole_push import Death

from engine.errors import ExitStatus
from engine.model.cohort import Action
from engine.report.run_results import FailedRun, NothingToResume, ResumedRuns, RunResult
from engine.runs import exports
from engine.runs.context import RunObservers
from engine.runs.session import WorkspaceSession

FIRST = Job("a", range(12), Action.ADD)
SECOND = Job("b", range(12), Action.ADD)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Leave a run of cohort `a` and a later one of cohort `b` unfinished."""
    workspace = Workspace(tmp_path)
    for job in (FIRST, SECOND):
        workspace.run([job], death=Death("answered", 2))
        workspace.pushes.machine.pause(100)
    return workspace


def names(workspace: Workspace) -> list[str]:
    return [name for (name,) in workspace.query("SELECT name FROM run ORDER BY run")]


def assert_each_was_resumed_once(workspace: Workspace) -> None:
    workspace.assert_laws()
    runs = "SELECT cohort_id, status, max(sitting) FROM run JOIN sitting USING (run) GROUP BY run"
    assert workspace.query(runs) == [("a", "finished", 2), ("b", "finished", 2)]
    for cohort in "ab":
        assert len(workspace.api.members_of(cohort)) == 12


@pytest.mark.parametrize("is_named", [True, False])
def test_resumes_at_once_resume_no_run_twice(workspace: Workspace, *, is_named: bool) -> None:
    """By name, the second waits for the first; without a name, it resumes the next run."""
    found: list[Any] = []

    async def start(session: WorkspaceSession, _: RunObservers) -> RunResult:
        runs = [names(workspace)[1]] * 2 if is_named else [None] * 3
        found.extend(await asyncio.gather(*(workspace.resume(session, run) for run in runs)))
        if is_named:
            found.append(await workspace.resume(session))
        result: RunResult = next(each for each in found if isinstance(each, RunResult))
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    [ended] = [each for each in found if not isinstance(each, RunResult)]
    assert isinstance(ended, NothingToResume)
    assert not is_named or "has ended in the meantime" in ended.reason
    assert_each_was_resumed_once(workspace)


def test_two_resumes_of_all_runs_at_once_resume_each_once(workspace: Workspace) -> None:
    found: list[Any] = []

    async def start(session: WorkspaceSession, _: RunObservers) -> RunResult:
        found.extend(await asyncio.gather(*(workspace.resume_all(session) for _ in range(2))))
        result: RunResult = found[0].runs[0]
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    resumed = [run for each in found if isinstance(each, ResumedRuns) for run in each.runs]
    assert not [each for each in resumed if isinstance(each, FailedRun)]
    assert len(resumed) == 2
    assert_each_was_resumed_once(workspace)


@pytest.mark.parametrize("way", ["named", "latest", "all"])
def test_a_run_that_another_process_ends_after_it_was_found_is_not_begun_anew(
    workspace: Workspace, way: str
) -> None:
    """The other process resumes the later run while this one opens the export."""
    found: list[Any] = []

    async def start(session: WorkspaceSession, _: RunObservers) -> RunResult:
        pushed: list[RunResult] = []

        async def open_late(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as it has them
            if not pushed:
                async with workspace.another_session() as other:
                    pushed.append(await SECOND.start(other, RunObservers()))
            return await open_again(*arguments, **options)

        open_again = exports.open_exports  # The harness has replaced it.
        with patch("engine.runs.exports.open_exports", open_late):
            if way == "all":
                found.append(await workspace.resume_all(session))
            else:
                run = names(workspace)[1] if way == "named" else None
                found.append(await workspace.resume(session, run))
        if way == "named":
            await workspace.resume(session)
        return pushed[0]

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    if way == "named":
        assert isinstance(found[0], NothingToResume)
    elif way == "latest":
        assert found[0].accounts.cohort_id == "a"
    else:
        assert [each.accounts.cohort_id for each in found[0].runs] == ["a"]
    assert_each_was_resumed_once(workspace)


def test_a_resume_sends_beside_another_run_of_its_session(workspace: Workspace) -> None:
    """It neither waits for a run of its own engine nor is refused because of it."""

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        sending = asyncio.create_task(Job("c", range(300), Action.ADD).start(session, observers))
        await asyncio.sleep(2)
        for _ in range(2):
            resumed = await workspace.resume(session)
            assert isinstance(resumed, RunResult)
            assert resumed.exit_status is ExitStatus.ACCEPTED
        assert not sending.done(), sending.result().accounts.reason
        result: RunResult = await sending
        return result

    assert workspace.live(start).exit_status is ExitStatus.ACCEPTED
    workspace.assert_laws()
