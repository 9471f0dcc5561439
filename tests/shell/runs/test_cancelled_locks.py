"""A cancelled command holds its cohort's lock until nothing that it began is written any more."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from unittest.mock import AsyncMock, patch

import pyarrow as pa
import pytest
from ledger_entries import rows
from scripted_server import ScriptedServer
from whole_push import COHORT, PARTNER, ExportSource, Pushes

from engine.delivery.stop import StopSwitch
from engine.errors import StateFullError
from engine.ledger.locks import cohort_at_once
from engine.ledger.records import RunReference, RunState
from engine.model.cohort import CohortKey
from engine.runs import transfer
from engine.runs.closing import enter
from engine.runs.context import RunContext
from engine.runs.mirror import mirror
from engine.runs.planner import MirrorRequest
from engine.runs.session import WorkspaceSession
from engine.snapshot.baseline import find_base
from engine.snapshot.store import SnapshotStore
from engine.source.block import Block
from exports import Export, Row

PATIENCE_SECONDS = 60.0
KEY = CohortKey(PARTNER, COHORT.id)


@pytest.fixture
def pushes(tmp_path: Path) -> Pushes:
    return Pushes(tmp_path, ScriptedServer())


@pytest.fixture
async def session(pushes: Pushes) -> AsyncIterator[WorkspaceSession]:
    async with WorkspaceSession(pushes.config()) as session:
        yield session


class Hold:
    """Holds the thread that passes by until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()

    def __call__(self, *_: object, **__: object) -> None:
        self.begun.set()
        self.released.wait(PATIENCE_SECONDS)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE_SECONDS)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def is_free(session: WorkspaceSession) -> bool:
    with cohort_at_once(session.folder, KEY) as free:
        return free


async def cancel_often(task: "asyncio.Task[object]") -> None:
    for _ in range(3):
        task.cancel()
        await turns()


async def assert_held_until(
    hold: Hold, task: "asyncio.Task[object]", session: WorkspaceSession
) -> None:
    """Cancel a task whose work is held up: it does not end before that work does."""
    await cancel_often(task)
    assert not task.done()
    assert not is_free(session)
    hold.released.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
    assert is_free(session)


async def test_a_queued_write_is_committed_before_the_cohort_is_free(
    session: WorkspaceSession,
) -> None:
    context = RunContext(session, KEY)
    async with session.holding(KEY, context.waiting(0.0)) as ledger:
        pass  # It stays open as long as the session.
    hold = Hold()

    async def begin() -> None:
        async with session.holding(KEY, context.waiting(0.0)):
            raise AssertionError

    writing = asyncio.create_task(ledger.write(hold))  # type: ignore[attr-defined] # it is no protocol
    await hold.reached()
    beginning: asyncio.Task[object] = asyncio.create_task(begin())
    await turns()  # Its recovery waits for the write before it.
    await asyncio.to_thread(lambda: None)
    await assert_held_until(hold, beginning, session)
    await writing


async def sweep(store: SnapshotStore, hold: Hold) -> None:
    with patch("engine.snapshot.store.remove_abandoned_folders", hold):
        await store.catch_up()


async def make(store: SnapshotStore, hold: Hold) -> None:
    await store.make("mirror", lambda *_: hold())  # type: ignore[arg-type, func-returns-value] # nobody looks


async def assume_empty(store: SnapshotStore, hold: Hold) -> None:
    with patch("engine.snapshot.baseline.write_sorted", hold):
        await find_base(store, assume_empty=True)


async def take_over(store: SnapshotStore, hold: Hold) -> None:
    with patch("engine.runs.transfer.take_over", hold):
        await transfer.import_snapshot(store, Path("theirs"), "here")


async def read_list(store: SnapshotStore, hold: Hold) -> None:
    with patch("engine.runs.transfer.stage", hold):
        await transfer.adopt(store, iter(()), StopSwitch())


@pytest.mark.parametrize("work", [sweep, make, assume_empty, take_over, read_list])
async def test_a_thread_that_writes_has_ended_before_the_cohort_is_free(
    session: WorkspaceSession, work: Callable[[SnapshotStore, Hold], Awaitable[None]]
) -> None:
    hold = Hold()

    async def command() -> None:
        async with RunContext(session, KEY).open(0.0) as (_, store):
            await work(store, hold)

    working: asyncio.Task[object] = asyncio.create_task(command())
    await hold.reached()
    await assert_held_until(hold, working, session)


class PipeSource(ExportSource):
    """An export that ends when somebody lets it."""

    def blocks(self) -> Iterator[Block]:
        blocks = super().blocks()
        yield next(blocks)
        HOLDS[self.name]()
        yield from blocks


HOLDS: dict[str, Hold] = {}


async def test_a_mirror_that_is_cancelled_while_it_reads_balances(
    session: WorkspaceSession, pushes: Pushes
) -> None:
    hold = HOLDS["pipe"] = Hold()
    export = Export([[Row("a"), Row(None, "blank")] * 7])
    source = PipeSource(export, "pipe")
    asked = MirrorRequest(source, source.spec, COHORT)
    running = asyncio.create_task(mirror(asked, session))
    await hold.reached()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, PATIENCE_SECONDS)
    query = "SELECT status, records, sum(count) FROM run JOIN reading USING (run) JOIN skipped"
    [(status, read, skipped)] = rows(pushes.ledger, query)
    assert (status, read) == ("incomplete", 7)
    assert 0 < skipped < read
    hold.released.set()
    for thread in threading.enumerate():
        if thread.name == "read":
            await asyncio.to_thread(thread.join, PATIENCE_SECONDS)
    assert rows(pushes.ledger, query) == [(status, read, skipped)]


class EnteringRun:
    """A run that is about to be entered."""

    state: RunState | None = None


@pytest.mark.parametrize("failure", [None, StateFullError("the disk is full")])
async def test_a_run_that_was_entered_is_known_however_often_it_was_cancelled(
    failure: Exception | None,
) -> None:
    state = RunState(RunReference(1, "run-1"), 1, False, 1, 0, 0)  # noqa: FBT003 - as it is declared
    committed = asyncio.Event()

    async def entry() -> RunState:
        await committed.wait()
        if failure is not None:
            raise failure
        return state

    run = EnteringRun()
    entering: asyncio.Task[object] = asyncio.create_task(enter(run, entry()))  # type: ignore[arg-type] # no more is needed
    await turns()
    await cancel_often(entering)
    assert not entering.done()
    committed.set()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert run.state is (state if failure is None else None)


async def test_an_export_that_is_cancelled_leaves_no_file(
    session: WorkspaceSession, tmp_path: Path
) -> None:
    hold = Hold()
    target = tmp_path / "members.parquet"

    async def export() -> None:
        async with RunContext(session, KEY).open(0.0) as (_, store):
            base = await find_base(store, assume_empty=True)
            assert base.snapshot is not None
            with (
                patch.object(store, "verified", AsyncMock(return_value=base.snapshot)),
                patch("engine.runs.transfer.uids_in", lambda *_: held(hold)),
            ):
                await transfer.export(store, target, None, "here", members_only=True)

    exporting: asyncio.Task[object] = asyncio.create_task(export())
    await hold.reached()
    await assert_held_until(hold, exporting, session)
    assert not target.exists()


def held(hold: Hold) -> Iterator[pa.Array]:
    hold()
    yield pa.array([b"a"], pa.binary())
