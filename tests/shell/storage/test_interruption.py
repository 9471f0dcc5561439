"""A stop ends a comparison or the rewriting of a snapshot between any two of its parts."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from known_snapshot import SETTINGS, snapshot_of, staged_in

from engine.delivery.stop import StopSwitch
from engine.errors import IncompleteError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.comparison import compare
from engine.runs.interruptible import compute_or_stop
from engine.snapshot.file_format import take_over
from engine.snapshot.fold import RunChanges, adopt, fold
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.partitions import sort_rows
from engine.snapshot.records import Snapshot, UidState
from engine.storage.computation import ComputeOptions, Interruption
from engine.storage.uid_parquet import UIDS, write_batches
from exports import Export, Row

COUNT = 30


def base_in(folder: Path, *, is_sorted: bool = True) -> Snapshot:
    known = {f"u{number}": (UidState.IN, 1) for number in range(COUNT)}
    return snapshot_of(known, folder / "base.parquet", is_sorted=is_sorted)


def comparing(folder: Path, options: ComputeOptions) -> object:
    blocks = Export([[Row(f"u{number}") for number in range(COUNT)]]).blocks(7)
    with staged_in(folder, blocks) as staged:
        return compare(staged, base_in(folder), folder, options)


def folding(folder: Path, options: ComputeOptions) -> object:
    path = folder / "adds.parquet"
    uids = pa.array([f"v{number}".encode() for number in range(COUNT)])
    write_batches(path, UIDS, [pa.record_batch([uids], schema=UIDS)])
    kept = OperationUids(Operation.ADD, {0: path})
    changes = RunChanges(2, [kept], [RangeOutcome(Operation.ADD, 0, COUNT, is_accepted=True)], [])
    return fold(base_in(folder), changes, folder / "next.parquet", options)


def adopting(folder: Path, options: ComputeOptions) -> object:
    target, state = folder / "next.parquet", UidState.MAY_BE_IN
    blocks = Export([[Row(f"v{number}") for number in range(COUNT)]]).blocks(7)
    with staged_in(folder, blocks) as staged:
        return adopt(base_in(folder), staged.spool, state, target, options)


def importing(folder: Path, options: ComputeOptions) -> object:
    theirs = base_in(folder, is_sorted=False)
    return take_over(theirs.path, folder / "next.parquet", options, lambda _: None)


def sorting(folder: Path, options: ComputeOptions) -> object:
    return sort_rows(base_in(folder, is_sorted=False), folder / "next.parquet", options)


Work = Callable[[Path, ComputeOptions], object]
WORK: dict[str, Work] = {
    work.__name__: work for work in (comparing, folding, adopting, importing, sorting)
}


class StopAtCheck(Interruption):
    """A stop that comes before a check of the computation."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.trip(IncompleteError("a signal"))
        super().check()


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_a_stop_ends_the_work_at_each_of_its_parts(tmp_path: Path, work: Work) -> None:
    before = 0
    with ExitStack() as small:
        small.enter_context(patch("engine.storage.uid_spool._FAST", 60))
        for module in ("planning.comparison", "snapshot.partitions"):
            small.enter_context(patch(f"engine.{module}.partition_bytes", lambda *_: 60))
        while True:
            folder = tmp_path / str(before)
            folder.mkdir()
            stop = StopAtCheck(before)
            try:
                work(folder, ComputeOptions(SETTINGS, stop))
            except IncompleteError:
                assert {path.name for path in folder.iterdir()} <= {"base.parquet", "adds.parquet"}
                before += 1
                continue
            break
    assert before > 8  # It is heard between partitions, too.


async def test_a_stop_ends_a_computation_and_is_raised() -> None:
    switch, begun = StopSwitch(), threading.Event()

    def work(interruption: Interruption) -> None:
        begun.set()
        while True:
            interruption.check()

    for hears_earlier in (True, False):
        begun.clear()
        working = asyncio.create_task(compute_or_stop(work, switch, hears_earlier=hears_earlier))
        await asyncio.to_thread(begun.wait)
        switch.pull(f"{hears_earlier}")
        with pytest.raises(IncompleteError, match=str(hears_earlier)):
            await working


async def test_what_ends_a_run_minds_no_earlier_stop(tmp_path: Path) -> None:
    switch = StopSwitch()
    switch.pull("a signal")

    def work(interruption: Interruption) -> object:
        return folding(tmp_path, ComputeOptions(SETTINGS, interruption))

    with pytest.raises(IncompleteError, match="a signal"):
        await compute_or_stop(work, switch)
    assert not (tmp_path / "next.parquet").exists()
    await compute_or_stop(work, switch, hears_earlier=False)
    assert (tmp_path / "next.parquet").exists()


def test_an_interruption_holds_for_whatever_is_begun_later() -> None:
    interruption = Interruption()
    for reason in ("first", "second"):
        interruption.trip(IncompleteError(reason))
    with pytest.raises(IncompleteError, match="first"):
        interruption.check()
