"""What one night of one workspace takes: time, CPU, memory, disk and network, from end to end.

    python benchmarks/workspace_night.py [--cohorts N] [--uids N] [--memory MEGABYTES]

Each cohort has so many uids (24 hex digits), of which 1 % come and 1 % go. The first
`cohortsync sync` adds them all, with the ceiling lifted; the second sends what changed, at 300
requests a minute. All cohorts read one export, in Parquet. docs/scale.md multiplies these figures.
5 cohorts of 20 million uids take about 10 GB of TMPDIR, deleted in the end.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from table import print_table
from trial import Client, Ended, report
from workload import LIFTED, WORKSPACE, Emulator, emulator, environment

GOAL = "a night within 5 minutes, in 2 GB of memory"
CEILING = (300, 60.0)
CHURN = 100
"""One uid in so many goes, and as many come."""
LEDGER = "ledger.sqlite*"
PLANS = "*/*/plans/**/*.*"
SNAPSHOTS = "*/*/snapshots/**/*.parquet"
_LONGEST_SECONDS = 3_600.0


def write(path: Path, uids: int, night: int) -> None:
    """Write the export of a night, 1 or 2."""
    import pyarrow as pa  # noqa: PLC0415 - the parent of a measured process loads nothing heavy
    from pyarrow import parquet  # noqa: PLC0415 - see above

    from exports import hex_uids, string_array  # noqa: PLC0415 - see above

    schema = pa.schema([("uid", pa.string())])
    newcomers = hex_uids(uids, seed=25)
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for matrix in hex_uids(uids):
            changed = len(matrix) // CHURN if night == 2 else 0
            parts = [string_array(next(newcomers)[:changed]), string_array(matrix[changed:])]
            for part in parts:
                writer.write_table(pa.table([part], schema=schema))


@dataclass(slots=True)
class FileTraffic:
    """What a process has read and written so far, looked at while it lives."""

    process: int = 0
    read: int = 0
    """Bytes of `read` calls, also of those that the page cache answers."""
    written: int = 0
    """Bytes that went to the disk, with temporary files."""

    def look(self) -> bool:
        """Look, if the process is still there; return False, as it is not for us to end it."""
        try:
            text = Path(f"/proc/{self.process}/io").read_text(encoding="ascii")
            lines = dict(line.split(": ") for line in text.splitlines())
            self.read, self.written = int(lines["rchar"]), int(lines["write_bytes"])
        except (OSError, ValueError):
            return False
        return False


def configure(folder: Path, endpoint: str, cohorts: int, memory: int, night: int) -> None:
    """Write the configuration of a night."""
    requests, per_seconds = LIFTED if night == 1 else CEILING
    head = (
        f'[workspace]\nid = "{WORKSPACE}"\nendpoint = "{endpoint}"\n'
        f"[limits]\nrequests = {requests}\nper_seconds = {per_seconds}\n"
        f"[plan]\nmemory_megabytes = {memory}\n[mirror]\nsettle_seconds = 0.0\n"
    )
    tables = [
        f'[cohorts.c{number}]\nname = "Cohort {number}"\nsource = "night-{night}.parquet"\n'
        for number in range(cohorts)
    ]
    (folder / "config.toml").write_text(head + "".join(tables), encoding="utf-8")


def sync(folder: Path, traffic: FileTraffic) -> Ended:
    """Sync all cohorts in a fresh process, and see that all is complete."""
    command = [sys.executable, "-m", "engine", "sync", "--json"]
    command += ["--config", str(folder / "config.toml")]
    with Client(command, folder, environment()) as client:
        traffic.process = client.pid
        ended = client.wait(_LONGEST_SECONDS, traffic.look)
        if ended.exit_status != 0:
            raise SystemExit(f"the sync ended with {ended.exit_status}:\n{client.complaint}")
    return ended


def size(paths: Iterable[Path]) -> int:
    """Return the bytes of files."""
    return sum(path.stat().st_size for path in paths)


def measure(
    folder: Path, listening: Emulator, cohorts: int, memory: int, uids: int
) -> Iterator[list[str]]:
    """Sync two nights; yield the figures of each."""
    state = folder / "state"
    for night, share in ((1, 1.0), (2, 2 / CHURN)):
        export = folder / f"night-{night}.parquet"
        command = [sys.executable, __file__, "write", str(export), str(uids), str(night)]
        subprocess.run(command, check=True)
        configure(folder, listening.endpoint, cohorts, memory, night)
        older, plans = set(state.glob(SNAPSHOTS)), size(state.glob(PLANS))
        ledger = size(state.rglob(LEDGER))
        before = report(listening.endpoint)
        traffic = FileTraffic()
        ended = sync(folder, traffic)
        after = report(listening.endpoint)
        requests = after["requests"]["received"] - before["requests"]["received"]
        sent = after["bytes_received"] - before["bytes_received"]
        yield [
            ("all added, ceiling lifted", "1 % churn")[night - 1],
            f"{ended.seconds:.0f}",
            f"{ended.cpu_seconds:.1f}",
            f"{ended.peak_bytes / 1e6:,.0f}",
            f"{requests:,}",
            f"{sent / (uids * cohorts * share):.1f}",
            f"{(size(state.rglob(LEDGER)) - ledger) / requests:,.0f}",
            f"{(size(state.glob(PLANS)) - plans) / (uids * cohorts * share):.1f}",
            f"{size(set(state.glob(SNAPSHOTS)) - older) / (uids * cohorts):.1f}",
            f"{size([export]) / uids:.1f}",
            f"{traffic.read / 1e9:.2f}",
            f"{traffic.written / 1e9:.2f}",
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=5)
    parser.add_argument("--uids", type=int, default=20_000_000, help="of each cohort")
    parser.add_argument("--memory", type=int, default=64, help="plan.memory_megabytes")
    asked = parser.parse_args()
    with (
        TemporaryDirectory(prefix="cohortsync-night-") as name,
        emulator("--count-only") as listening,
    ):
        rows = list(measure(Path(name), listening, asked.cohorts, asked.memory, uids=asked.uids))
    print_table(
        f"Nights of one workspace: {asked.cohorts} cohorts of {asked.uids:,} uids, "
        f"plan.memory_megabytes {asked.memory}",
        (
            *("night", "seconds", "CPU s", "peak MB", "requests", "bytes sent a uid"),
            *("ledger bytes a request", "plan bytes a uid sent"),
            *("snapshot bytes a uid", "export bytes a uid", "read GB", "written GB"),
        ),
        rows,
    )
    print(
        f"Goal: {GOAL}.\n"
        "Measured: `cohortsync sync` as a process, start and end included; read and written by "
        "the kernel's count\n(reads that the page cache answers included); payloads without "
        "headers and encryption."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
