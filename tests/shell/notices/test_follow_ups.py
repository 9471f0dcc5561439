"""Markers and commands that follow a complete cohort: once, and within a limit."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_entries import HandClock
from receiver import time_is_up, until

from engine.delivery.stop import StopSwitch
from engine.errors import ExitStatus
from engine.ledger.sqlite.ledger import Ledger
from engine.model.status import CohortStatus
from engine.notices.completion import Completion
from engine.notices.follow_up import FollowUp, FollowUpError, run_command, sync_variables
from engine.notices.ports import NoticeContext
from engine.report.sync_result import CohortResult
from synced import COHORT, ended, pushed, synced

WRITE = """
import json, os, pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write(json.dumps(dict(os.environ)) + "\\n")
sys.exit(int(sys.argv[2]))
"""


class Followed:
    """A cohort with a command and a marker, in a sync after another."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.calls = folder / "calls"
        self.marker = folder / "done" / "vip"
        self.status = 0
        self.failures: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.switch = StopSwitch()
        self._ledger = ledger
        self._folder = folder

    def follow_up(self) -> FollowUp:
        command = (sys.executable, "-c", WRITE, str(self.calls), str(self.status))
        return FollowUp(command, 30.0, self._folder, self.marker)

    async def sync(self, result: CohortResult, follow_up: FollowUp | None = None) -> CohortResult:
        @asynccontextmanager
        async def open_ledger(_: str) -> AsyncIterator[Ledger]:
            yield self._ledger

        completion = Completion(
            {"vip": follow_up or self.follow_up()},
            [COHORT],
            NoticeContext(open_ledger, HandClock(), self.notes.append, self.switch),
            lambda kind, sentence: self.failures.append((kind, sentence)),
        )
        completion.begins("vip")
        assert not self.marker.exists()
        return await completion.ended("sync-1", result)

    def environments(self) -> list[dict[str, str]]:
        if not self.calls.exists():
            return []
        return [json.loads(line) for line in self.calls.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def followed(tmp_path: Path, ledger: Ledger) -> Followed:
    return Followed(tmp_path, ledger)


async def test_a_complete_cohort_is_followed(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOENGAGE_API_KEY", "S3CRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3CRET")
    result = replace(pushed(1000), members=1000)
    assert await followed.sync(result) == result
    marker = json.loads(followed.marker.read_text(encoding="utf-8"))
    assert (marker["cohort"], marker["run"], marker["members"]) == ("vip", "run-1", 1000)
    assert stat.S_IMODE(followed.marker.stat().st_mode) == 0o644
    [environment] = followed.environments()
    assert {k: v for k, v in environment.items() if k.startswith("COHORTSYNC_")} == {
        "COHORTSYNC_SYNC": "sync-1",
        "COHORTSYNC_COHORT": "vip",
        "COHORTSYNC_COHORT_ID": "vip-id",
        "COHORTSYNC_COHORT_NAME": "VIP customers",
        "COHORTSYNC_WORKSPACE": "default",
        "COHORTSYNC_MODE": "mirror",
        "COHORTSYNC_STATUS": "finished",
        "COHORTSYNC_EXIT_STATUS": "0",
        "COHORTSYNC_RUN": "run-1",
        "COHORTSYNC_ADDED": "1000",
        "COHORTSYNC_REMOVED": "0",
        "COHORTSYNC_REJECTED": "0",
        "COHORTSYNC_MEMBERS": "1000",
    }
    assert environment["PATH"] == os.environ["PATH"]
    assert "S3CRET" not in environment.values()


@pytest.mark.parametrize("status", [each for each in ExitStatus if each])
async def test_a_cohort_that_is_not_complete_is_not_followed(
    followed: Followed, status: ExitStatus
) -> None:
    await followed.sync(pushed(10))
    result = pushed(10, status=status, run="run-2")
    assert await followed.sync(result) == result
    assert not followed.marker.exists()
    assert len(followed.environments()) == 1


async def test_exit_status_1_is_complete_where_that_is_set(followed: Followed) -> None:
    follow_up = replace(followed.follow_up(), partial_is_complete=True)
    await followed.sync(pushed(10, rejected=1, status=ExitStatus.PARTIAL), follow_up)
    assert followed.marker.exists()
    assert [each["COHORTSYNC_REJECTED"] for each in followed.environments()] == ["1"]


async def test_a_command_that_fails_makes_75_and_is_tried_again_until_it_succeeds(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.status = 3
    failed = await followed.sync(pushed(10))
    assert failed.exit_status is ExitStatus.INCOMPLETE
    assert failed.reason == "complete, but the `after` command ended with exit status 3"
    assert failed.status.value == "finished"
    assert failed.hint == "`cohortsync sync vip` tries that again, and sends nothing"
    assert [kind for kind, _ in followed.failures] == ["after"]
    followed.status = 0
    up_to_date = ended(CohortStatus.UP_TO_DATE)
    finished_run(followed, monkeypatch, "run-1")
    for _ in range(3):  # The first one runs it; the others find nothing to do.
        assert await followed.sync(up_to_date) == up_to_date
        assert followed.marker.exists()
    assert [each["COHORTSYNC_RUN"] for each in followed.environments()] == ["run-1", "run-1"]
    await followed.sync(pushed(10, run="run-2"))
    assert len(followed.environments()) == 3


def finished_run(followed: Followed, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async def last_finished_run(partner: str, cohort_id: str) -> str:
        assert (partner, cohort_id) == ("P", "vip-id")
        return name

    monkeypatch.setattr(followed._ledger.notices, "last_finished_run", last_finished_run)


async def test_a_marker_that_cannot_be_written_makes_75_and_no_command_runs(
    followed: Followed, tmp_path: Path
) -> None:
    (tmp_path / "done").write_text("a file", encoding="utf-8")
    follow_up = replace(followed.follow_up(), marker=tmp_path / "done" / "deeper" / "vip")
    failed = await followed.sync(pushed(10), follow_up)
    assert failed.exit_status is ExitStatus.INCOMPLETE
    assert "can't be written" in (failed.reason or "")
    assert followed.environments() == []


async def test_a_marker_that_cannot_be_removed_is_told(followed: Followed) -> None:
    followed.marker.mkdir(parents=True)
    with pytest.raises(AssertionError):  # It is still there.
        await followed.sync(ended(ExitStatus.USAGE))
    [(kind, sentence)] = followed.failures
    assert kind == "marker"
    assert "can't be removed" in sentence


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/not/there",), "can't be started: No such file or directory"),
        (("sh", "-c", "kill -9 $$"), "ended with signal 9"),
        (("sh", "-c", "exit 7"), "ended with exit status 7"),
        (("a\0b",), "can't be started: an argument holds a NUL"),
    ],
)
async def test_each_failure_of_a_command_is_told(
    tmp_path: Path, command: tuple[str, ...], says: str
) -> None:
    with pytest.raises(FollowUpError) as caught:
        await run_command(FollowUp(command, folder=tmp_path), {}, StopSwitch(), print)
    assert str(caught.value) == f"the `after` command {says}"


async def test_a_command_gets_no_shell_and_its_output_is_dropped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print(sys.argv[1:]); sys.exit(sys.argv[1] != '$(touch x); *')"
    command = (sys.executable, "-c", script, "$(touch x); *")
    await run_command(FollowUp(command, folder=tmp_path), {}, StopSwitch(), print)
    assert not (tmp_path / "x").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, time_limit: asyncio.Timeout, *, is_cancelled: bool
) -> None:
    started = tmp_path / "started"
    script = "sleep 1000 & echo $! > started.part; mv started.part started; wait"
    running = asyncio.create_task(
        run_command(FollowUp(("sh", "-c", script), folder=tmp_path), {}, StopSwitch(), print)
    )
    await until(started.exists)
    if is_cancelled:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        await time_is_up(time_limit)
        with pytest.raises(FollowUpError, match="took longer than 600 s"):
            await running
    await until(lambda: not is_alive(started))


async def test_a_command_that_is_cancelled_while_it_starts_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, is_cancelled = asyncio.create_subprocess_exec, asyncio.Event()

    async def create(*command: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401 - passed on
        process = await own(*command, **options)
        await is_cancelled.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", create)
    script = "sleep 1000 & echo $! > started.part; mv started.part started; wait"
    running = asyncio.create_task(
        run_command(FollowUp(("sh", "-c", script), folder=tmp_path), {}, StopSwitch(), print)
    )
    started = tmp_path / "started"
    await until(started.exists)
    running.cancel()
    await asyncio.sleep(0)
    is_cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not is_alive(started))


def is_alive(pid_file: Path) -> bool:
    process = int(pid_file.read_text(encoding="ascii"))
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != "Z"  # Its new parent may not have asked for it yet.


def test_the_command_of_a_sync_learns_the_cohorts() -> None:
    assert sync_variables(synced(pushed(1), ended(ExitStatus.PARTIAL, key="lapsed"))) == {
        "COHORTSYNC_SYNC": "sync-1700000000000000000",
        "COHORTSYNC_EXIT_STATUS": "1",
        "COHORTSYNC_COHORTS": "vip lapsed",
    }


async def test_after_a_stop_no_command_is_begun(followed: Followed) -> None:
    followed.switch.pull("SIGTERM received")
    result = await followed.sync(ended(ExitStatus.ACCEPTED))
    assert result.exit_status is ExitStatus.INCOMPLETE
    assert "is not begun: SIGTERM received" in (result.reason or "")
    assert followed.environments() == []


@pytest.mark.parametrize("stops", [1, 2])
async def test_a_second_stop_ends_a_command_and_the_first_does_not(
    tmp_path: Path, stops: int
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
    switch = StopSwitch()
    command = FollowUp(("sh", "-c", script), 30.0, tmp_path)
    notes: list[str] = []
    running = asyncio.create_task(run_command(command, {}, switch, notes.append))
    await until(begun.exists)
    for _ in range(stops):
        switch.pull("a signal")
    if stops == 1:
        go.touch()
        await running
        assert notes == [
            "waiting for the `after` command, which may take 30 s in all; a second signal ends it"
        ]
    else:
        with pytest.raises(FollowUpError, match="was ended: a signal"):
            await running
