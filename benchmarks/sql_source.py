"""What reading a query takes, beside the driver alone: rows a second, and memory.

    python benchmarks/sql_source.py [--rows N] [--repeat N] [--url URL]

Reads a column of text (24 hex digits) from a database, by default from a PostgreSQL server that it
starts itself and from a file of SQLite and of DuckDB. Each reading is a process of its own: the
driver alone reads every batch and drops it; a spool is what a run makes of it; a source is the
spool read as blocks of uids, which a run does once more.
"""

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.source.options import ReadingOptions
from engine.source.sql.cancellation import Cancellation
from engine.source.sql.connection import Connection
from engine.source.sql.query import Query, QueryResult
from table import print_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

GOAL = "half of the driver alone; 5 M rows under 250 MB"
ROWS = 5_000_000
QUERY = "SELECT uid FROM audience"
HEADINGS = ("database", "driver M/s", "spool M/s", "share", "source M/s", "driver MB", "spool MB")


def read_driver(connection: Connection) -> int:
    """Read every row by the driver as a run asks it, and drop it; return how many there were."""
    from engine.source.sql.running import run_query  # noqa: PLC0415 - only what a step needs

    query = Query(connection.name, QUERY)
    if connection.scheme == "sqlite":  # Its driver gives rows, not batches.
        with closing(sqlite3.connect(str(connection.path))) as database:
            cursor = database.execute(QUERY)
            return sum(map(len, iter(lambda: cursor.fetchmany(8192), [])))
    with run_query(connection, query, Cancellation()) as result:
        return sum(len(batch) for batch in result.batches(["uid"]))


def read_spool(connection: Connection, folder: Path) -> int:
    """Spool every row as a run does; return how many there were."""
    from engine.source.sql.reading import QueryReading  # noqa: PLC0415 - only what a step needs

    query = Query(connection.name, QUERY)
    found = QueryReading(connection, query, None, (None,)).spool(folder, Cancellation(), 0)[None]
    (folder / "spool").write_text(str(found.path), encoding="utf-8")
    return found.rows


def read_source(folder: Path) -> int:
    """Read the spool as a run does; return how many uids it has."""
    from engine.source.sql.spool import SpoolSource  # noqa: PLC0415 - only what a step needs

    spool = Path((folder / "spool").read_text(encoding="utf-8"))
    result = QueryResult(Query("bench", QUERY), "", spool, 0)
    return sum(len(block.uids) for block in SpoolSource(result, ReadingOptions()).blocks())


def step(name: str, url: str, folder: Path) -> tuple[float, float]:
    """Run one step in this process; return M rows a second, and the peak of memory in MB."""
    connection = Connection("bench", url, folder)
    started = time.perf_counter()
    match name:
        case "driver":
            rows = read_driver(connection)
        case "spool":
            rows = read_spool(connection, folder)
        case _:
            rows = read_source(folder)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status)  # ru_maxrss has the parent's, too.
    return rows / seconds / 1e6, int(peak) / 1000


def measure(name: str, url: str, folder: Path) -> tuple[float, float]:
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, "--url", url, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    speed, megabytes = json.loads(done.stdout)
    return speed, megabytes


def row(label: str, url: str, folder: Path, repeat: int) -> list[str]:
    """Return the cells of one database: the best of some repetitions, side by side."""
    best: dict[str, float] = {}
    peak: dict[str, float] = {}
    for _ in range(repeat):
        for name in ("driver", "spool", "source"):
            speed, megabytes = measure(name, url, folder)
            best[name] = max(best.get(name, 0.0), speed)
            peak[name] = max(peak.get(name, 0.0), megabytes)
        for spool in folder.glob("*.parquet"):
            spool.unlink()
    return [
        label,
        f"{best['driver']:.2f}",
        f"{best['spool']:.2f}",
        f"{best['spool'] / best['driver']:.0%}",
        f"{best['source']:.1f}",
        f"{peak['driver']:.0f}",
        f"{peak['spool']:.0f}",
    ]


@contextmanager
def databases(rows: int, folder: Path) -> Iterator[dict[str, str]]:
    """Yield the URL of each database that there is here, with a table of `rows` uids."""
    from postgres_server import binaries, postgres_server  # noqa: PLC0415 - of the tests

    found: dict[str, str] = {}
    with ExitStack() as running:
        if binaries() is not None:
            server = running.enter_context(postgres_server())
            server.execute(
                "create table audience as select substr(md5(n::text), 1, 24) as uid "  # noqa: S608 - a number
                f"from generate_series(1, {rows}) n"
            )
            found["PostgreSQL, by ADBC"] = server.url
            with suppress(ImportError):
                import psycopg  # noqa: F401, PLC0415 - the dialect's driver, if it is there

                found["PostgreSQL, by SQLAlchemy"] = server.url.replace(
                    "postgresql://", "postgresql+psycopg://"
                )
        with closing(sqlite3.connect(folder / "bench.sqlite")) as database, database:
            database.execute("create table audience (uid text)")
            database.executemany(
                "insert into audience values (?)", ((f"{n:024x}",) for n in range(rows))
            )
        found["SQLite"] = f"sqlite:{folder}/bench.sqlite"
        with suppress(ImportError):
            import duckdb  # noqa: PLC0415 - an extra

            with duckdb.connect(str(folder / "bench.duckdb")) as database:
                database.execute(
                    "create table audience as select substr(md5(n::text), 1, 24) as uid "  # noqa: S608 - as above
                    f"from range({rows}) t(n)"
                )
            found["DuckDB"] = f"duckdb:{folder}/bench.duckdb"
        yield found


def main() -> None:
    """Print the table, or the figure of one step."""
    parser = argparse.ArgumentParser(description="What reading a query takes.")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--step", choices=("driver", "spool", "source"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        sys.stdout.write(json.dumps(step(arguments.step, arguments.url, arguments.folder)))
        return
    with TemporaryDirectory(prefix="cohortsync-sql-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        with databases(arguments.rows, folder) as found:
            rows = [row(label, url, folder, arguments.repeat) for label, url in found.items()]
    print_table(f"A query with {arguments.rows / 1e6:g} M uids of 24 digits", HEADINGS, rows)
    print(
        f"Goal: {GOAL}.\nMeasured: the best of {arguments.repeat}, each step a process of its own."
    )


if __name__ == "__main__":
    main()
