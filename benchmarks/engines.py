"""What planning a mirror takes on each engine, beside the engine's own bare anti-joins.

    python benchmarks/engines.py [--uids N] [--engine local duckdb postgres spark]

As many uids (24 hex digits) acknowledged as in the export, of which 1 % come and 1 % go. Each step
is a process of its own. PostgreSQL is started in TMPDIR, without fsync, and needs its programs.
Spark runs on this machine; the seconds that it takes to start are not counted, and the peak of
memory is that of the client, without the process of Java.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine_steps import add_step_options, print_step, run_step
from planning_steps import measure
from table import print_table

ENGINES = ("local", "duckdb", "postgres", "spark")
HEADINGS = (
    *("engine", "first snapshot s", "reading s", "comparison s", "next snapshot s"),
    *("bare anti-joins s", "peak MB of plan", "peak MB of snapshot"),
)
BARE = """
    select (select count(*) from cohortsync_list_0 e
            where not exists (select 1 from {members} m where m.uid = e.uid)),
        (select count(*) from {members} m
            where not exists (select 1 from cohortsync_list_0 e where e.uid = m.uid))
"""


def work(step: str, name: str, folder: Path, url: str) -> dict[str, float]:
    """Do one step in this process; return seconds by part."""
    from pyarrow import parquet  # noqa: PLC0415 - only in a step

    from engine.planning.conditions import NO_CONDITIONS  # noqa: PLC0415 - only in a step
    from engine.planning.staging import stage  # noqa: PLC0415 - see above
    from engine.snapshot.fold import RunChanges  # noqa: PLC0415 - see above
    from engine.snapshot.operation_uids import OperationUids  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.source.spec import SourceSpec  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions  # noqa: PLC0415 - see above
    from engine.storage.paths import generation_path, record_path  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    options = ComputeOptions(PlanningSettings())
    engine = _engine(name, folder, url)
    path = folder / "known.parquet"
    known = Snapshot(path, Census(parquet.read_metadata(path).num_rows), b"")
    first = generation_path(folder, 1)
    base = known
    if name != "local":
        base = Snapshot(record_path(first), known.census, b"")
    if name == "spark":
        _start_spark(url)
    began = time.monotonic()
    if step == "first":
        if name != "local":
            engine.make(lambda *_: known, first, options)
        return {"seconds": time.monotonic() - began}
    if step == "fold":
        operations = json.loads((folder / "counts.json").read_text(encoding="ascii"))
        changes = _changes(operations, folder, RunChanges, OperationUids)
        engine.fold(base, changes, generation_path(folder, 2), options)
        return {"seconds": time.monotonic() - began}
    export = SourceSpec((str(folder / "wanted.parquet"),)).open()
    with engine.comparing(folder, options) as comparison:
        staged = stage(export.blocks(), comparison.new_list())
        read = time.monotonic()
        if step == "bare":
            session = comparison._session  # noqa: SLF001
            head = engine.generations.head(session)
            members = engine.generations.rows_of(session, *head)
            rows = session.rows(BARE.format(members=members))
            return {"seconds": time.monotonic() - read, "differences": sum(rows[0])}
        found = comparison.compare(staged, base, folder, options, NO_CONDITIONS)
        counts = {"add": found.adds.planned, "remove": found.removes.planned}
        (folder / "counts.json").write_text(json.dumps(counts), encoding="ascii")
        return {"reading": read - began, "seconds": time.monotonic() - read}


def _changes(counts: dict[str, int], folder: Path, changes: Any, kept: Any) -> Any:  # noqa: ANN401 - loaded by the step
    from engine.ledger.snapshot_records import RangeOutcome  # noqa: PLC0415 - only in a step
    from engine.model.cohort import Operation  # noqa: PLC0415 - see above
    from engine.storage.paths import operation_path  # noqa: PLC0415 - see above

    both = (Operation.ADD, Operation.REMOVE)
    outcomes = [RangeOutcome(each, 0, counts[each.value], is_accepted=True) for each in both]
    operations = [kept(each, {0: operation_path(folder, each)}) for each in both]
    return changes(2, operations, outcomes, [2])


def _engine(name: str, folder: Path, url: str) -> Any:  # noqa: ANN401 - loaded by the step
    from engine.planning.local_engine import LOCAL  # noqa: PLC0415 - only in a step

    if name == "local":
        return LOCAL
    if name == "spark":
        return _spark_engine(folder, url)
    from engine.planning.database.engine import ExternalEngine  # noqa: PLC0415 - see above
    from engine.planning.database.statements import Tables  # noqa: PLC0415 - see above
    from engine.planning.database.tables import TableGenerations  # noqa: PLC0415 - see above
    from engine.runs.engines import opened  # noqa: PLC0415 - see above
    from engine.source.sql.connection import Connection  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    connection = Connection("benchmark", url, folder)
    return ExternalEngine(
        lambda interruption: opened(connection, PlanningSettings(), interruption),
        connection.name,
        "the database",
        TableGenerations(Tables("benchmark"), 14),
    )


def _start_spark(url: str) -> Any:  # noqa: ANN401 - loaded by the step
    from engine.planning.spark.process import PROCESSES  # noqa: PLC0415 - only in a step
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    return PROCESSES.get(url.partition(":")[2], PlanningSettings())


def _spark_engine(folder: Path, url: str) -> Any:  # noqa: ANN401 - loaded by the step
    from engine.planning.database.engine import ExternalEngine  # noqa: PLC0415 - only in a step
    from engine.planning.spark.generations import LakeGenerations  # noqa: PLC0415 - see above
    from engine.planning.spark.lake import CohortFolder  # noqa: PLC0415 - see above
    from engine.planning.spark.session import cluster_session  # noqa: PLC0415 - see above

    cohort = CohortFolder(str(folder / "lake"), "benchmark")
    return ExternalEngine(
        lambda interruption: cluster_session(
            cohort, lambda: _start_spark(url), interruption, datetime.now(UTC)
        ),
        "benchmark",
        cohort.place,
        LakeGenerations(cohort),
    )


@contextmanager
def database(engine: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database."""
    if engine == "spark":
        yield "spark:local[*]"
        return
    if engine != "postgres":
        yield f"duckdb:{folder}/plans.duckdb"
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from postgres_server import postgres_server  # noqa: PLC0415 - it needs pytest

    with postgres_server() as server:
        yield server.url


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What planning takes on each engine.")
    parser.add_argument("--uids", type=int, default=20_000_000)
    parser.add_argument("--engine", nargs="+", default=ENGINES)
    add_step_options(parser)
    given = parser.parse_args()
    if given.step:
        print_step(work(given.step, given.engine[0], Path(given.folder), given.url))
        return
    rows = []
    with TemporaryDirectory(prefix="cohortsync-engines-") as name, ExitStack() as stack:
        folder = Path(name)
        measure("write", folder, given.uids)
        for engine in given.engine:
            url = stack.enter_context(database(engine, folder))
            first = run_step(__file__, "first", engine, folder, url)
            plan = run_step(__file__, "plan", engine, folder, url)
            bare = (
                run_step(__file__, "bare", engine, folder, url)["seconds"]
                if engine != "local"
                else None
            )
            fold = run_step(__file__, "fold", engine, folder, url)
            cells = [first["seconds"], plan["reading"], plan["seconds"], fold["seconds"]]
            shown = "" if bare is None else f"{bare:.1f}"
            peaks = [f"{each['peak_mb']:.0f}" for each in (plan, fold)]
            rows.append([engine, *(f"{each:.1f}" for each in cells), shown, *peaks])
    title = f"A mirror's plan of {given.uids:,} uids against as many, 1 % adds and 1 % removes"
    print_table(title, HEADINGS, rows)


if __name__ == "__main__":
    main()
