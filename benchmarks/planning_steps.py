"""The steps of a mirror's plan, each as a process that can be measured.

    python benchmarks/planning_steps.py STEP FOLDER NUMBER

This module loads nothing heavy by itself: the peak memory that the system reports of a child begins
with what its parent held when it was started.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

CHURN = 100
"""One uid in so many goes, and as many come."""
INPUTS = ("known.parquet", "wanted.parquet")
SECONDS = "stage-seconds"
"""The file in which a plan tells how long it has read the export."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    """User and system time, all threads."""
    peak_mb: float
    reading_seconds: float
    """How long a plan has read the export."""
    disk_gb: float
    """The most that lay in the folder besides the inputs, with temporary files without a name."""


def measure(step: str, folder: Path, number: int) -> Step:
    """Run one step as a process, and watch the folder meanwhile."""
    disk = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal disk
        while not done.wait(0.1):
            named = (path for path in folder.rglob("*") if path.name not in INPUTS)
            unnamed = Path(f"/proc/{process.pid}/fd").glob("*")
            disk = max(disk, sum(map(_size, named)) + sum(_size(each, 0) for each in unnamed))

    watcher = threading.Thread(target=watch)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, step, str(folder), str(number)])
    try:
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        done.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{step} failed")
    seconds = time.monotonic() - began
    note = folder / SECONDS
    reading = float(note.read_text(encoding="ascii")) if step == "plan" else 0.0
    cpu = usage.ru_utime + usage.ru_stime
    return Step(seconds, cpu, usage.ru_maxrss / 1000, reading, disk / 1e9)


def clear(folder: Path) -> None:
    """Delete what earlier steps have left, but for the inputs."""
    for path in folder.iterdir():
        if path.name not in INPUTS:
            path.unlink()


def _size(path: Path, links: int = 1) -> int:
    """Return the bytes of disk of a file with so many names; 0 for any other."""
    try:
        found = path.stat()
    except OSError:
        return 0
    is_one = S_ISREG(found.st_mode) and found.st_nlink == links
    return found.st_blocks * 512 if is_one else 0


def write(folder: Path, uids: int) -> None:
    """Write what was acknowledged, as a snapshot, and the export, in another order."""
    import numpy as np  # noqa: PLC0415 - only in the process that needs it
    import pyarrow as pa  # noqa: PLC0415 - see above

    from engine.snapshot.partitions import sort_rows  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.snapshot.sorted_file import SNAPSHOT  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above
    from engine.storage.uid_parquet import UIDS, open_writer  # noqa: PLC0415 - see above
    from exports import hex_uids, string_array  # noqa: PLC0415 - see above

    known, wanted = (folder / name for name in INPUTS)
    unsorted = folder / "unsorted.parquet"
    newcomers = hex_uids(uids, seed=25)
    with open_writer(unsorted, SNAPSHOT, "zstd") as old, open_writer(wanted, UIDS) as new:
        for matrix in hex_uids(uids):
            count, gone = len(matrix), len(matrix) // CHURN
            column = string_array(matrix).cast(pa.binary())
            ones = np.ones(count, np.int32)
            state, run = pa.array(ones.astype(np.uint8)), pa.array(ones)
            old.write(pa.record_batch([column, state, run], schema=SNAPSHOT))
            come = string_array(next(newcomers)[:gone]).cast(pa.binary())
            for part in (come, column.slice(gone)[::-1]):
                new.write(pa.record_batch([part], schema=UIDS))
    options = ComputeOptions(PlanningSettings())
    sort_rows(Snapshot(unsorted, Census(uids), b""), known, options)
    unsorted.unlink()


def plan(folder: Path, memory: int) -> None:
    """Read the export, look at it, keep its uids, and compare it with what was acknowledged."""
    from pyarrow import parquet  # noqa: PLC0415 - each process loads what it needs

    from engine.planning.comparison import compare  # noqa: PLC0415 - see above
    from engine.planning.profile import Inspection  # noqa: PLC0415 - see above
    from engine.planning.staging import EXPORT, stage  # noqa: PLC0415 - see above
    from engine.snapshot.export_places import open_places  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.source.spec import SourceSpec  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above
    from engine.storage.uid_spool import open_spool  # noqa: PLC0415 - see above

    settings = PlanningSettings(memory_megabytes=memory)
    source = SourceSpec((str(folder / "wanted.parquet"),)).open()
    inspection = Inspection(None)
    began = time.monotonic()
    with open_spool(folder, EXPORT, settings) as spool:
        with open_places(folder) as places:
            observe = [lambda block: inspection.look(block.uids), places.add]
            staged = stage(source.blocks(), spool, observe=observe)
        (folder / SECONDS).write_text(f"{time.monotonic() - began}", encoding="ascii")
        uids = parquet.read_metadata(folder / "known.parquet").num_rows
        known = Snapshot(folder / "known.parquet", Census(uids), b"")
        found = compare(staged, known, folder, ComputeOptions(settings))
    if not uids // CHURN * 0.9 <= found.adds.planned == found.removes.planned <= uids // CHURN:
        raise SystemExit("the plan is wrong")


def fold(folder: Path, memory: int) -> None:
    """Write the next snapshot, as if all of the plan had been accepted."""
    from pyarrow import parquet  # noqa: PLC0415 - see above

    from engine.ledger.snapshot_records import RangeOutcome  # noqa: PLC0415 - see above
    from engine.model.cohort import Operation  # noqa: PLC0415 - see above
    from engine.snapshot.fold import RunChanges  # noqa: PLC0415 - see above
    from engine.snapshot.fold import fold as fold_plan  # noqa: PLC0415 - see above
    from engine.snapshot.operation_uids import kept_uids  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions  # noqa: PLC0415 - see above
    from engine.storage.paths import operation_path  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    operations = (Operation.ADD, Operation.REMOVE)
    outcomes = [
        RangeOutcome(operation, 0, parquet.read_metadata(path).num_rows, is_accepted=True)
        for operation in operations
        for path in [operation_path(folder, operation)]
    ]
    changes = RunChanges(2, [kept_uids(folder, each) for each in operations], outcomes, [2])
    options = ComputeOptions(PlanningSettings(memory_megabytes=memory))
    uids = parquet.read_metadata(folder / "known.parquet").num_rows
    known = Snapshot(folder / "known.parquet", Census(uids), b"")
    fold_plan(known, changes, folder / "next.parquet", options)


def sets(folder: Path, _: int) -> None:
    """Do the same the simple way: both sides as sets in memory."""
    from pyarrow import parquet  # noqa: PLC0415 - see above

    known, wanted = (
        set(parquet.read_table(folder / name, columns=["uid"])["uid"].to_pylist())
        for name in INPUTS
    )
    for name, uids in (("adds", wanted - known), ("removes", known - wanted)):
        (folder / f"{name}.txt").write_bytes(b"\n".join(uids))


STEPS: dict[str, Callable[[Path, int], None]] = {
    step.__name__: step for step in (write, plan, fold, sets)
}


if __name__ == "__main__":
    STEPS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
