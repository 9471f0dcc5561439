"""What planning a mirror takes: time, memory and disk, out of core.

    python benchmarks/plan.py [--uids N ...] [--memory MEGABYTES ...]

As many uids (24 hex digits) acknowledged as in the export, of which 1 % come and 1 % go. Each step
is a process of its own. 100 million uids take about 25 GB of TMPDIR, deleted in the end.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from table import print_table

SIZES = (10_000_000, 100_000_000)
MEMORY = (2000, 512)
CHURN = 100
"""One uid in so many goes, and as many come."""
_CHUNK = 1_000_000
_PLAN_SECONDS, _SNAPSHOT_SECONDS = 90, 60


@dataclass(frozen=True, slots=True)
class Step:
    """What one process took."""

    seconds: float
    peak_mb: float
    spilled_gb: float


def _hex(count: int) -> pa.Array:
    """Return so many random uids of 24 hex digits."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    raw = np.frombuffer(os.urandom(count * 12), np.uint8)
    text = np.empty(count * 24, np.uint8)
    text[0::2], text[1::2] = digits[raw >> 4], digits[raw & 15]
    offsets = pa.py_buffer(np.arange(0, 24 * (count + 1), 24, dtype=np.int32))
    return pa.Array.from_buffers(pa.string(), count, [None, offsets, pa.py_buffer(text)])


def write_both(known: Path, wanted: Path, uids: int) -> None:
    """Write what was acknowledged, as a snapshot, and the export, in another order."""
    from engine.plan.snapshot_file import SNAPSHOT  # noqa: PLC0415 - only in the process that writes

    plain = pa.schema([("uid", pa.string())])
    with (
        pq.ParquetWriter(known, SNAPSHOT, use_dictionary=["state", "run"]) as old,
        pq.ParquetWriter(wanted, plain, use_dictionary=False) as new,
    ):
        for start in range(0, uids, _CHUNK):
            count = min(_CHUNK, uids - start)
            chunk = _hex(count)
            columns = [
                chunk.cast(pa.binary()),
                pa.array(np.ones(count, np.uint8)),
                pa.array(np.ones(count, np.int32)),
            ]
            old.write_batch(pa.record_batch(columns, schema=SNAPSHOT))
            gone = count // CHURN
            new.write_batch(pa.record_batch([_hex(gone)], schema=plain))
            new.write_batch(pa.record_batch([chunk.slice(gone)[::-1]], schema=plain))


def run_step(step: str, folder: Path, memory: int) -> None:
    """Do one step of a mirror on the files in `folder`; this is a process of its own."""
    from engine.cohort import Leg  # noqa: PLC0415 - each process loads what it needs
    from engine.plan.compare import compare, leg_path  # noqa: PLC0415 - each process loads what it needs
    from engine.plan.fold import FATES, fold  # noqa: PLC0415 - see above
    from engine.plan.profile import Inspection  # noqa: PLC0415 - see above
    from engine.plan.records import Census, Snapshot, Staged  # noqa: PLC0415 - see above
    from engine.plan.settings import PlanningSettings  # noqa: PLC0415 - see above
    from engine.plan.staging import stage  # noqa: PLC0415 - see above
    from engine.source import ReadingOptions, open_source  # noqa: PLC0415 - see above

    settings = PlanningSettings(memory_megabytes=memory)
    uids = pq.read_metadata(folder / "known.parquet").num_rows
    base = Snapshot(folder / "known.parquet", Census(uids), b"")
    staged = folder / "staged.parquet"
    if step == "stage":
        source = open_source([str(folder / "wanted.parquet")], ReadingOptions())
        stage(source.blocks(), staged, look=Inspection(None).look)
    elif step == "compare":
        found = compare(Staged(staged, uids, 0, 0, uids, 24 * uids), base, folder, settings)
        expected = sum(min(_CHUNK, uids - at) // CHURN for at in range(0, uids, _CHUNK))
        if (found.adds.planned, found.removes.planned) != (expected, expected):
            raise SystemExit("the plan is wrong")
    else:
        legs = {leg: leg_path(folder, leg) for leg in (Leg.ADD, Leg.REMOVE)}
        rows = [(leg.value, 0, pq.read_metadata(path).num_rows, True) for leg, path in legs.items()]
        fates = pa.table(dict(zip(FATES.names, zip(*rows, strict=True), strict=True)), schema=FATES)
        fold(
            base,
            {leg: {0: path} for leg, path in legs.items()},
            fates,
            run=2,
            recent_runs=[2],
            target=folder / "next.parquet",
            settings=settings,
        )


def measure(step: str, folder: Path, memory: int) -> Step:
    """Run one step as a process, and watch what it spills."""
    spilled, done = 0, threading.Event()

    def watch() -> None:
        nonlocal spilled
        while not done.wait(0.2):
            found = 0
            for path in folder.glob("spill-*/*"):
                try:
                    found += path.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            spilled = max(spilled, found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    command = [sys.executable, __file__, "--step", step, str(folder), str(memory)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"{step} failed")
    return Step(seconds, usage.ru_maxrss / 1000, spilled / 1e9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What planning a mirror takes.")
    parser.add_argument("--uids", type=int, nargs="+", default=SIZES)
    parser.add_argument("--memory", type=int, nargs="+", default=MEMORY, help="limits in MB")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step, folder, memory = arguments.step
        run_step(step, Path(folder), int(memory))
        return
    rows = []
    for uids in arguments.uids:
        with TemporaryDirectory(prefix="cohortsync-plan-") as name:
            folder = Path(name)
            subprocess.run(
                [sys.executable, "-c", _WRITE, str(Path(__file__).parent), name, str(uids)],
                check=True,
            )
            for memory in arguments.memory:
                stage, compare, fold = (
                    measure(step, folder, memory) for step in ("stage", "compare", "fold")
                )
                peak_mb = max(stage.peak_mb, compare.peak_mb, fold.peak_mb)
                rows.append(
                    [
                        f"{uids / 1e6:g} M",
                        f"{memory}",
                        f"{stage.seconds:.1f}",
                        f"{compare.seconds:.1f}",
                        f"{stage.seconds + compare.seconds:.1f}",
                        f"{fold.seconds:.1f}",
                        f"{peak_mb:.0f}",
                        f"{peak_mb / memory:.2f}",
                        f"{compare.spilled_gb:.1f}",
                    ]
                )
    print_table(
        "A mirror's plan, 1 % adds and 1 % removes, uids of 24 hex digits",
        (
            *("uids", "limit MB", "stage s", "compare s", "plan s", "snapshot s"),
            *("peak MB", "÷ limit", "spill GB"),
        ),
        rows,
    )
    print(
        f"Goals for 100 M uids: a plan within {_PLAN_SECONDS} s at 2000 MB, three times that at "
        f"512 MB, a snapshot within {_SNAPSHOT_SECONDS} s,\npeak memory at most 1.5 times the "
        "limit. plan = stage (the export read, checked and kept) + compare; each step is a\n"
        "process of its own, start and end included."
    )


_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from plan import write_both
folder = Path(sys.argv[2])
write_both(folder / "known.parquet", folder / "wanted.parquet", int(sys.argv[3]))
"""


if __name__ == "__main__":
    main()
