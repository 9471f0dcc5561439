"""What a state folder keeps of its runs: all of them, the unfinished one, attempts and rejects."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_entries import COMMAND, KEY, PACE, SETTINGS, HandClock, halves, registration, verdict

from engine.errors import ExitStatus, LedgerError, UsageError
from engine.ledger.locks import cohort_at_once, sole_writer
from engine.ledger.records import RejectedUid, RunReference, Settlement
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.state_folder import make_folder
from engine.model.status import BatchState
from engine.payload.batch import SkippedRows
from engine.report.history import all_runs, details_of, find_unfinished, open_run
from engine.source.block import Skipped
from engine.storage.paths import LEDGER_NAME, ledger_folder


@asynccontextmanager
async def open_ledger_of(state: Path, clock: HandClock, workspace: str) -> AsyncIterator[Ledger]:
    folder = ledger_folder(state, KEY.endpoint, workspace)
    make_folder(folder)
    ledger = await Ledger.open(folder / LEDGER_NAME, clock)
    try:
        yield ledger
    finally:
        await ledger.close()


async def live(
    state: Path, clock: HandClock, workspace: str, status: str = "incomplete"
) -> RunReference:
    """Begin a run, let it end in `status`, and let a minute pass."""
    async with open_ledger_of(state, clock, workspace) as ledger:
        state = await ledger.runs.begin(replace(KEY, workspace=workspace), COMMAND, SETTINGS)
        if status != "running":
            await ledger.runs.finish(state, status, ExitStatus.INCOMPLETE, "why", PACE)
    clock.advance(60)
    return state.run


async def test_runs_of_all_workspaces_are_reported_the_latest_first(
    tmp_path: Path, clock: HandClock
) -> None:
    names = [
        (await live(tmp_path, clock, workspace, "finished")).name for workspace in ("B", "A", "B")
    ]
    output = all_runs(tmp_path)
    assert [accounts.run for accounts in output] == names[::-1]
    assert [accounts.workspace for accounts in output] == ["B", "A", "B"]


@pytest.mark.parametrize("look", [all_runs, lambda state: find_unfinished(state, None)])
def test_a_state_folder_that_is_not_there_is_refused_and_an_empty_one_is_not(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    assert not look(tmp_path)
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(LedgerError, match="is not there") as caught:
            look(tmp_path / name)
        assert caught.value.hint


async def test_a_run_is_found_by_its_name(tmp_path: Path, clock: HandClock) -> None:
    first, second = await live(tmp_path, clock, "A"), await live(tmp_path, clock, "B")
    for run, workspace in ((first, "A"), (second, "B")):
        with open_run(tmp_path, run.name) as report:
            assert report.accounts().workspace == workspace
    with pytest.raises(UsageError, match="no run 20260101-000000-abcd") as caught:
        details_of(tmp_path, "20260101-000000-abcd")
    assert caught.value.hint


@pytest.mark.parametrize("status", ["incomplete", "refused", "source_failed", "failed", "running"])
async def test_an_unfinished_run_is_found_with_its_command(
    tmp_path: Path, clock: HandClock, status: str
) -> None:
    run = await live(tmp_path, clock, "A", status)
    await live(tmp_path, clock, "B", "finished")
    found = find_unfinished(tmp_path, None)
    assert found is not None
    assert found == find_unfinished(tmp_path, run.name)
    assert found.name == run.name
    assert (found.endpoint, found.workspace, found.partner) == (KEY.endpoint, "A", KEY.partner)
    cohort = (found.cohort_id, found.cohort_name, found.cohort_description, found.action)
    assert cohort == ("cohort-1", "Buyers", None, "add")
    assert found.spec == COMMAND.spec


async def test_of_several_unfinished_runs_the_latest_is_meant(
    tmp_path: Path, clock: HandClock
) -> None:
    earlier, later = await live(tmp_path, clock, "B"), await live(tmp_path, clock, "A")
    found = find_unfinished(tmp_path, None)
    assert found is not None
    assert found.name == later.name
    named = find_unfinished(tmp_path, earlier.name)
    assert named is not None
    assert named.name == earlier.name


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("finished", "starts a new run"),
        ("abandoned", "a new run of the same command took its place"),
        ("unbalanced", "report it"),
    ],
)
async def test_a_run_that_ended_for_good_cannot_be_resumed(
    tmp_path: Path, clock: HandClock, status: str, hint: str
) -> None:
    run = await live(tmp_path, clock, "A", status)
    assert find_unfinished(tmp_path, None) is None
    with pytest.raises(UsageError, match=f"run {run.name} is {status}") as caught:
        find_unfinished(tmp_path, run.name)
    assert hint in (caught.value.hint or "")


async def test_a_run_whose_process_died_is_not_taken_for_running(
    tmp_path: Path, clock: HandClock
) -> None:
    run = await live(tmp_path, clock, "A", "running")
    [output] = all_runs(tmp_path)
    assert (output.status, output.reason) == ("incomplete", "the process died")
    folder = ledger_folder(tmp_path, KEY.endpoint, "A")
    async with sole_writer(folder):  # A process sends for another cohort.
        [output] = all_runs(tmp_path)
        assert output.status == "incomplete"
    with cohort_at_once(folder, KEY.cohort_key):
        [output] = all_runs(tmp_path)
        assert output.status == "running"
        found = find_unfinished(tmp_path, None)  # A process works on it, which the lock will show.
        assert found is not None
        assert found.name == run.name


async def test_every_attempt_is_reported_and_every_batch_without_one(
    tmp_path: Path, clock: HandClock
) -> None:
    async with open_ledger_of(tmp_path, clock, "A") as ledger:
        run = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
        entries = [registration(1, 0, 10), registration(2, 10, 10)]
        await ledger.sends.intend(run, entries, 1, 1)
        await ledger.sends.conclude(run, 1, 1, verdict(clock, "unconfirmed", applied=True), None)
        await ledger.sends.intend(run, (), 1, 2)
        await ledger.sends.conclude(run, 1, 2, verdict(clock, "too_large"), halves(3, 0, 10))
        await ledger.sends.intend(run, (), 3, 1)
        with open_run(tmp_path, run.run.name) as report:
            output = list(report.attempts())
    assert [(a["batch"], a["parent"], a["attempt"], a["outcome"]) for a in output] == [
        (1, None, 1, "unconfirmed"),
        (1, None, 2, "too_large"),
        (2, None, None, None),
        (3, 1, 1, None),
        (4, 1, None, None),
    ]
    assert [a["may_have_been_applied"] for a in output] == [True, True, False, True, True]
    assert output[0]["sent_at"] == "2023-11-14T22:13:20.000+00:00"
    assert output[3]["sent_at"] is None


async def test_every_uid_and_row_that_was_not_taken_is_reported_one_by_one(
    tmp_path: Path, clock: HandClock
) -> None:
    async with open_ledger_of(tmp_path, clock, "A") as ledger:
        run = await ledger.runs.begin(KEY, COMMAND, SETTINGS)
        skipped = (
            SkippedRows("a.csv", Skipped(2, 3, "invalid UTF-8")),
            SkippedRows("a.csv", Skipped(9, 1, "blank")),
        )
        uid = RejectedUid("a.csv", 5, "u1", "400: uid", "req-7")
        entry = registration(1, 0, 1, skipped, records_through=9, is_last=True)
        await ledger.sends.change(run, [entry], 1, Settlement(BatchState.REJECTED, "400: uid", uid))
        other = await ledger.runs.begin(replace(KEY, partner="other"), COMMAND, SETTINGS)
        with open_run(tmp_path, other.run.name) as report:
            assert list(report.rejects()) == []
        with open_run(tmp_path, run.run.name) as report:
            output = [tuple(reject.to_dict().values()) for reject in report.rejects()]
    assert output == [
        *[("invalid", "a.csv", record, "invalid UTF-8", None, None) for record in (2, 3, 4)],
        ("rejected", "a.csv", 5, "400: uid", "u1", "req-7"),
        ("blank", "a.csv", 9, "blank", None, None),
    ]
