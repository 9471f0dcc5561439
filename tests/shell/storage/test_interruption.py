"""A stop ends the query in which a comparison or a fold is, and does not wait for it."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from known_snapshot import SETTINGS, snapshot_of

from engine.delivery.stop import StopSwitch
from engine.errors import IncompleteError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.comparison import compare
from engine.runs.interruptible import compute_or_stop
from engine.snapshot.file_format import refuse_twice
from engine.snapshot.fold import RunChanges, adopt, fold
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.records import Snapshot, Staged, UidState
from engine.storage.duckdb_session import Interruption, QueryOptions, Session, open_session
from engine.storage.uid_parquet import UIDS, write_batches

ENDLESS = {
    "before its first row": "SELECT count(*) FROM range(1000000000000) AS r(i) WHERE hash(i) = 1",
    "between its rows": "SELECT i FROM range(1000000000000) AS r(i)",
}


def staged_in(folder: Path) -> Staged:
    uids = pa.array([b"a", b"b"])
    write_batches(folder / "staged.parquet", UIDS, [pa.record_batch([uids], schema=UIDS)])
    return Staged(folder / "staged.parquet", 2, 0, 0, 2, 2)


def base_in(folder: Path) -> Snapshot:
    return snapshot_of({"a": (UidState.IN, 1)}, folder / "base.parquet")


def folding(folder: Path, interruption: Interruption) -> object:
    uids = OperationUids(Operation.ADD, {0: staged_in(folder).path})
    changes = RunChanges(2, [uids], [RangeOutcome(Operation.ADD, 0, 2, is_accepted=True)], [])
    options = QueryOptions(SETTINGS, interruption)
    return fold(base_in(folder), changes, folder / "next.parquet", options)


def adopting(folder: Path, interruption: Interruption) -> object:
    return adopt(
        *(base_in(folder), staged_in(folder).path, UidState.MAY_BE_IN, folder / "next.parquet"),
        QueryOptions(SETTINGS, interruption),
    )


WORK: dict[str, Callable[[Path, Interruption], object]] = {
    "a comparison": lambda folder, interruption: compare(
        *(staged_in(folder), base_in(folder), folder), QueryOptions(SETTINGS, interruption)
    ),
    "a fold": folding,
    "an adoption": adopting,
    "an import": lambda folder, interruption: refuse_twice(
        *(Path("theirs"), base_in(folder).path), QueryOptions(SETTINGS, interruption)
    ),
}


@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
async def test_a_stop_ends_the_query(
    tmp_path: Path, work: Callable[[Path, Interruption], object], query: str
) -> None:
    switch, begun = StopSwitch(), threading.Event()
    real = Session.rows

    def endless(self: Session, _: str, __: Sequence[object] = ()) -> Iterator[pa.RecordBatch]:
        begun.set()
        for _ in real(self, query):
            yield from ()  # The caller's rows have other columns.

    with patch.object(Session, "rows", endless):
        working = asyncio.create_task(
            compute_or_stop(lambda interruption: work(tmp_path, interruption), switch)
        )
        await asyncio.to_thread(begun.wait)
        switch.pull("a signal")
        with pytest.raises(IncompleteError, match="a signal"):
            await working
    assert not (tmp_path / "next.parquet").exists()


async def test_a_stop_that_came_before_keeps_the_query_from_beginning(tmp_path: Path) -> None:
    switch = StopSwitch()
    switch.pull("a signal")
    with pytest.raises(IncompleteError, match="a signal"):
        await compute_or_stop(lambda each: WORK["a fold"](tmp_path, each), switch)
    assert not (tmp_path / "next.parquet").exists()


async def test_what_ends_a_run_minds_only_a_further_stop(tmp_path: Path) -> None:
    switch = StopSwitch()
    switch.pull("a signal")
    await compute_or_stop(
        lambda interruption: WORK["a fold"](tmp_path, interruption), switch, hears_earlier=False
    )
    assert (tmp_path / "next.parquet").exists()
    begun = threading.Event()

    def work(interruption: Interruption) -> None:
        with open_session(QueryOptions(SETTINGS, interruption), tmp_path) as session:
            begun.set()
            for _ in session.rows(ENDLESS["before its first row"]):
                raise AssertionError

    working = asyncio.create_task(compute_or_stop(work, switch, hears_earlier=False))
    await asyncio.to_thread(begun.wait)
    switch.pull("another signal")
    with pytest.raises(IncompleteError, match="another signal"):
        await working


def test_an_interruption_holds_for_whatever_is_begun_later(tmp_path: Path) -> None:
    interruption = Interruption()
    for reason in ("first", "second"):
        interruption.trip(IncompleteError(reason))
    with (
        pytest.raises(IncompleteError, match="first"),
        open_session(QueryOptions(SETTINGS, interruption), tmp_path),
    ):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []
