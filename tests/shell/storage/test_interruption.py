"""How the comparison and the rewriting of a snapshot end: by a stop, a full disk, an error."""

import asyncio
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from known_snapshot import SETTINGS, snapshot_of, staged_in

from engine.delivery.stop import StopSwitch
from engine.errors import IncompleteError, StateFullError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.planning.comparison import compare
from engine.planning.conditions import Conditions
from engine.planning.operation_file import OperationFile
from engine.runs.interruptible import compute_or_stop
from engine.snapshot.file_format import take_over
from engine.snapshot.fold import RunChanges, adopt, fold
from engine.snapshot.operation_uids import OperationUids
from engine.snapshot.partitions import sort_rows
from engine.snapshot.records import Snapshot, UidState
from engine.snapshot.sorted_file import SortedWriter
from engine.storage.computation import ComputeOptions, Interruption
from engine.storage.uid_parquet import UIDS, write_batches
from exports import Export, Row

COUNT = 20


def base_in(folder: Path, *, is_sorted: bool = True) -> Snapshot:
    known = {f"u{number}": (UidState.IN, 1) for number in range(COUNT)}
    return snapshot_of(known, folder / "base.parquet", is_sorted=is_sorted)


Run = Callable[[ComputeOptions], object]


def comparing(folder: Path) -> Run:
    base = base_in(folder)
    export = Export([[Row(f"u{number}") for number in range(COUNT // 2, 2 * COUNT)]])
    held = Conditions(recent_runs=[1])

    def run(options: ComputeOptions) -> object:
        with staged_in(folder, export.blocks(7)) as staged:
            return compare(staged, base, folder, options, held)

    return run


def folding(folder: Path) -> Run:
    path = folder / "adds.parquet"
    uids = pa.array([f"v{number}".encode() for number in range(COUNT)])
    write_batches(path, UIDS, [pa.record_batch([uids], schema=UIDS)])
    kept = OperationUids(Operation.ADD, {0: path})
    changes = RunChanges(2, [kept], [RangeOutcome(Operation.ADD, 0, COUNT, is_accepted=True)], [])
    base = base_in(folder)
    return lambda options: fold(base, changes, folder / "next.parquet", options)


def adopting(folder: Path) -> Run:
    base = base_in(folder)
    export = Export([[Row(f"v{number}") for number in range(COUNT)]])

    def run(options: ComputeOptions) -> object:
        with staged_in(folder, export.blocks(7)) as staged:
            target = folder / "next.parquet"
            return adopt(base, staged.spool, UidState.MAY_BE_IN, target, options)

    return run


def importing(folder: Path) -> Run:
    theirs = base_in(folder, is_sorted=False)
    target = folder / "next.parquet"
    return lambda options: take_over(theirs.path, target, options, lambda _: None)


def sorting(folder: Path) -> Run:
    old = base_in(folder, is_sorted=False)
    return lambda options: sort_rows(old, folder / "next.parquet", options)


Work = Callable[[Path], Run]
"""Makes what some work needs; returns the work."""
WORK: dict[str, Work] = {
    work.__name__: work for work in (comparing, folding, adopting, importing, sorting)
}
each_work = pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())


@contextmanager
def small_parts() -> Iterator[None]:
    """Process a few uids at a time, so that spools are divided again."""
    with ExitStack() as small:
        small.enter_context(patch("engine.storage.uid_spool._FAST", 60))
        for name in ("_MOST_BUFFERED", "_LEAST_BUFFERED"):
            small.enter_context(patch(f"engine.storage.uid_spool.{name}", 200))
        for module in ("planning.comparison", "snapshot.partitions"):
            small.enter_context(patch(f"engine.{module}.partition_bytes", lambda *_: 60))
        yield


OPERATION_FILES = {"adds.parquet", "removes.parquet", "resends.parquet"}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


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


@each_work
def test_a_stop_ends_the_work_at_each_of_its_parts(tmp_path: Path, work: Work) -> None:
    run = work(tmp_path)
    given = names_in(tmp_path)
    before = 0
    with small_parts():
        while True:
            try:
                run(ComputeOptions(SETTINGS, StopAtCheck(before)))
            except IncompleteError:
                assert names_in(tmp_path) == given
                before += 1
                continue
            break
    assert before > 6  # It is heard between partitions, too.


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let the process write no file larger than `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@each_work
def test_a_disk_that_fills_up_ends_the_work_wherever_it_is(tmp_path: Path, work: Work) -> None:
    run = work(tmp_path)
    given = names_in(tmp_path)
    for size in range(0, 20_000, 61):
        try:
            with small_parts(), files_limited_to(size):
                run(ComputeOptions(SETTINGS))
        except StateFullError:
            # The plan's files are complete; they are deleted with the run, which has no plan.
            assert names_in(tmp_path) <= given | OPERATION_FILES
            continue
        break
    assert 600 < size < 10_000  # Both the spools and the files were cut off.


@pytest.mark.parametrize(
    ("work", "write"),
    [(comparing, OperationFile), (folding, SortedWriter)],
    ids=lambda each: each.__name__,
)
def test_no_thread_outlives_an_error(tmp_path: Path, work: Work, write: type) -> None:
    run = work(tmp_path)
    settings = replace(SETTINGS, memory_megabytes=500, threads=3)

    def fail(*_: object) -> None:
        raise StateFullError("the disk is full")

    with small_parts(), patch.object(write, "write", fail), pytest.raises(StateFullError) as caught:
        run(ComputeOptions(settings))
    # The traceback still refers to the frames of the work.
    assert caught.tb is not None
    assert not {each.name for each in threading.enumerate() if each.name.startswith("compute")}


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
    fold_all = folding(tmp_path)

    def work(interruption: Interruption) -> object:
        return fold_all(ComputeOptions(SETTINGS, interruption))

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
