"""Runs at once in one session, of which some send before others."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shared_workspace import Job, Workspace, cohort_of

from engine.errors import GuardError
from engine.model.cohort import Action, Cohort
from engine.report.run_results import RunResult
from engine.runs.context import RunObservers
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.precedence import Precedence
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.session import WorkspaceSession

QUEUED_AHEAD = 2
"""Attempts of a run that were queued before one of a lower rank."""


def start(
    job: Job, session: WorkspaceSession, observers: RunObservers, precedence: Precedence
) -> Any:  # noqa: ANN401 - a coroutine
    cohort, source = Cohort(job.cohort, f"Cohort {job.cohort}"), job.source
    if job.action is None:
        wanted = MirrorRequest(source, source.spec, cohort)
        return mirror(wanted, session, observers, precedence=precedence)
    request = PushRequest(source, source.spec, cohort, job.action)
    return push(request, session, observers, precedence=precedence)


def run_all(workspace: Workspace, jobs: dict[int, Job]) -> dict[str, RunResult]:
    """Run jobs at once, each with its rank."""
    found: dict[str, RunResult] = {}

    async def begin(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        observers = replace(observers, observe=workspace.told.append)
        results = await asyncio.gather(
            *(start(job, session, observers, Precedence(rank=rank)) for rank, job in jobs.items())
        )
        found.update({each.accounts.cohort_id: each for each in results})
        return results[0]  # type: ignore[no-any-return] # a coroutine's

    ended = workspace.live(begin)
    assert ended.error is None, ended.error
    workspace.assert_laws()
    return found


@pytest.mark.parametrize("action", [Action.ADD, None])
def test_the_run_of_the_lowest_rank_sends_first(tmp_path: Path, action: Action | None) -> None:
    workspace = Workspace(tmp_path)
    jobs = {2: Job("c", range(30), action), 0: Job("a", range(30), action)}
    jobs[1] = Job("b", range(30), action)
    run_all(workspace, jobs)
    senders = [cohort_of(request) for request in workspace.api.arrived]
    assert len(senders) == 30
    # A run that has queued an attempt before one of a lower rank comes may send that.
    for name in "abc":
        first_ten = senders[:10] if name == "a" else senders[10:20] if name == "b" else senders[20:]
        assert first_ten.count(name) >= 10 - 2 * QUEUED_AHEAD


def test_a_run_of_a_higher_rank_uses_what_the_lower_leaves(tmp_path: Path) -> None:
    """While one waits for changes to settle, the other sends: the ceiling has no pause."""
    workspace = Workspace(tmp_path)
    workspace.run([Job("a", range(30), None)])
    sent_before = len(workspace.api.arrived)
    jobs = {0: Job("a", range(15, 45), None), 1: Job("b", range(60), Action.ADD)}
    run_all(workspace, jobs)
    senders = [cohort_of(request) for request in workspace.api.arrived[sent_before:]]
    last_of_a = len(senders) - 1 - senders[::-1].index("a")
    assert "b" in senders[:last_of_a]
    assert workspace.api.members_of("b") == set(jobs[1].names)
    assert workspace.api.members_of("a") == set(jobs[0].names)


def test_a_run_that_is_not_admitted_sends_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    async def refuse() -> None:
        raise GuardError("late: it would miss its deadline")

    async def begin(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        precedence = Precedence(admit=refuse)
        with pytest.raises(GuardError, match="late"):
            await start(Job("b", range(9), Action.ADD), session, observers, precedence)
        result: RunResult = await start(Job("a", range(9), None), session, observers, precedence)
        return result

    ended = workspace.live(begin)
    assert ended.result is not None
    accounts = ended.result.accounts
    assert (accounts.status, accounts.exit_status) == ("guarded", 4)
    assert accounts.reason == "late: it would miss its deadline"
    assert not workspace.api.arrived
    workspace.assert_laws()
