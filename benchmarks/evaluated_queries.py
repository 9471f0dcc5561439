"""What a mirror's plan takes whose export is a query on the comparing database, by either way.

    python benchmarks/evaluated_queries.py [--uids N] [--engine duckdb postgres]

"here": the query's rows are read, spooled, and loaded to be compared. "there": the database
evaluates the query, and only the changes come back. As many uids (24 hex digits) acknowledged as
in the table that is asked, of which 1 % come and 1 % go. Each way is a process of its own.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine_steps import add_step_options, print_step, run_step
from engines import _engine, database
from planning_steps import measure
from table import print_table

HEADINGS = ("engine", "the query is evaluated", "export s", "comparison s", "whole s", "client MB")
TEXT = "select uid from audience"
WAYS = ("here", "there")


def prepare(folder: Path, engine: Any) -> None:  # noqa: ANN401 - loaded by the step
    """Make a generation of the known uids, and a table of the wanted ones."""
    from pyarrow import parquet  # noqa: PLC0415 - only in a step

    from engine.planning.database.uploading import upload  # noqa: PLC0415 - see above
    from engine.planning.staging import EXPORT  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions, Interruption  # noqa: PLC0415 - see above
    from engine.storage.paths import generation_path  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    path = folder / "known.parquet"
    known = Snapshot(path, Census(parquet.read_metadata(path).num_rows), b"")
    engine.make(lambda *_: known, generation_path(folder, 1), ComputeOptions(PlanningSettings()))
    with engine.open(Interruption()) as session:
        session.new_table("wanted", EXPORT)
        wanted = parquet.ParquetFile(folder / "wanted.parquet")
        upload(session, "wanted", wanted.iter_batches(columns=["uid"]))
        text = session.functions.ascii.format("uid")
        session.execute(f"create table audience as select {text} as uid from wanted")  # noqa: S608 - ours


def plan(way: str, folder: Path, engine: Any, connection: Any) -> dict[str, float]:  # noqa: ANN401 - as above
    """Make the plan; return seconds by part."""
    from pyarrow import parquet  # noqa: PLC0415 - only in a step

    from engine.payload.batch import RowCounter  # noqa: PLC0415 - see above
    from engine.planning.conditions import NO_CONDITIONS  # noqa: PLC0415 - see above
    from engine.planning.profile import Inspection  # noqa: PLC0415 - see above
    from engine.planning.query_export import QueryExport  # noqa: PLC0415 - see above
    from engine.planning.staging import stage  # noqa: PLC0415 - see above
    from engine.snapshot.records import Census, Snapshot  # noqa: PLC0415 - see above
    from engine.source.options import ReadingOptions  # noqa: PLC0415 - see above
    from engine.source.sql.cancellation import Cancellation  # noqa: PLC0415 - see above
    from engine.source.sql.query import Query, QueryResult  # noqa: PLC0415 - see above
    from engine.source.sql.reading import QueryReading  # noqa: PLC0415 - see above
    from engine.source.sql.spool import SpoolSource  # noqa: PLC0415 - see above
    from engine.storage.computation import ComputeOptions, Interruption  # noqa: PLC0415 - see above
    from engine.storage.paths import generation_path, record_path  # noqa: PLC0415 - see above
    from engine.storage.settings import PlanningSettings  # noqa: PLC0415 - see above

    options, read, query = ComputeOptions(PlanningSettings()), ReadingOptions(), Query("b", TEXT)
    members = parquet.read_metadata(folder / "known.parquet").num_rows
    base = Snapshot(record_path(generation_path(folder, 1)), Census(members), b"")
    inspection = Inspection(None)
    began = time.monotonic()
    if way == "here":
        reading = QueryReading(connection, query, None, (None,))
        found = reading.spool(folder, Cancellation(), 0)[None]
        source = SpoolSource(QueryResult(query, found.digest, found.path, 0), read)
    with engine.comparing(folder, options) as comparison:
        if way == "here":
            look = (lambda block: inspection.look(block.uids),)
            staged = stage(source.blocks(), comparison.new_list(), observe=look)
        else:
            export = QueryExport(query, read, inspection, RowCounter(), lambda _: None)
            staged = comparison.stage_query(export, Interruption())
        staged_at = time.monotonic()
        changes = comparison.compare(staged, base, folder, options, NO_CONDITIONS)
    ended = time.monotonic()
    return {
        "changes": changes.adds.planned + changes.removes.planned,
        "export": staged_at - began,
        "comparison": ended - staged_at,
    }


def step(name: str, engine: str, folder: Path, url: str) -> dict[str, float]:
    """Do one step in this process."""
    from engine.source.sql.connection import Connection  # noqa: PLC0415 - only in a step

    compared = _engine(engine, folder, url)
    if name == "prepare":
        prepare(folder, compared)
        return {}
    return plan(name, folder, compared, Connection("b", url, folder))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What a plan of a query's rows takes.")
    parser.add_argument("--uids", type=int, default=5_000_000)
    parser.add_argument("--engine", nargs="+", default=("duckdb", "postgres"))
    add_step_options(parser)
    given = parser.parse_args()
    if given.step:
        print_step(step(given.step, given.engine[0], Path(given.folder), given.url))
        return
    rows = []
    with TemporaryDirectory(prefix="cohortsync-evaluated-") as name, ExitStack() as stack:
        folder = Path(name)
        measure("write", folder, given.uids)
        for engine in given.engine:
            url = stack.enter_context(database(engine, folder))
            run_step(__file__, "prepare", engine, folder, url)
            found = {way: run_step(__file__, way, engine, folder, url) for way in WAYS}
            if found["here"]["changes"] != found["there"]["changes"]:
                raise SystemExit("the two ways find different changes")
            for way, each in found.items():
                cells = [each["export"], each["comparison"], each["export"] + each["comparison"]]
                shown = [f"{cell:.1f}" for cell in cells]
                rows.append([engine, way, *shown, f"{each['peak_mb']:.0f}"])
    title = f"A mirror's plan of {given.uids:,} rows of a query, 1 % adds and 1 % removes"
    print_table(title, HEADINGS, rows)


if __name__ == "__main__":
    main()
