"""A program that calls the engine may cancel it: outcomes are recorded all the same."""

import asyncio
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from scripted_server import Play, ScriptedServer
from whole_push import COHORT, ExportSource, Pushes

from engine.errors import ExitStatus, IncompleteError
from engine.model.cohort import Action
from engine.report.run_results import RunResult
from engine.runs.context import RunObservers
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from engine.runs.session import WorkspaceSession
from exports import Export, Row


@pytest.mark.parametrize("is_draining", [False, True])
def test_what_is_under_way_is_recorded_as_unconfirmed(tmp_path: Path, *, is_draining: bool) -> None:
    scripted_server = ScriptedServer(
        script=lambda request: Play(seconds=0.1 if request.number == 1 else 3600)
    )
    pushes = Pushes(tmp_path, scripted_server)
    source = ExportSource(Export([[Row(f"u{number:04}") for number in range(40)]]))
    request = PushRequest(source, source.spec, COHORT, Action.ADD)

    async def start(session: WorkspaceSession, observers: RunObservers) -> RunResult:
        task = asyncio.create_task(push(request, session, observers))
        await asyncio.sleep(5)
        if is_draining:
            session.switch.pull("a signal")
            await asyncio.sleep(5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        raise IncompleteError("it was cancelled")

    assert pushes._run(start, None, ()).exit_status is ExitStatus.INCOMPLETE
    with closing(sqlite3.connect(pushes.ledger)) as ledger:
        outcomes = [outcome for (outcome,) in ledger.execute("SELECT outcome FROM attempt")]
    assert outcomes.count("accepted") == 1
    assert outcomes.count("unconfirmed") == len(scripted_server.arrived) - 1
    assert None not in outcomes
