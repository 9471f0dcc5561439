"""The limits on memory, threads and disk of a comparison."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """Limits on memory, threads and disk for the comparison of an export with a snapshot."""

    memory_megabytes: Annotated[int, Ge(64), Le(100_000_000)] = 500
    """Megabytes of memory for the uids that are compared at a time, besides what the program itself
    takes (about 150 MB). Uids are divided into partitions that fit."""
    threads: Annotated[int, Ge(0), Le(256)] = 0
    """Number of threads that compare; 0 means one for each core. There are fewer if memory is
    small."""
    engine: Literal["local", "duckdb", "postgres", "spark", "snowflake", "bigquery"] = "local"
    """Where exports are compared with snapshots, and where these are kept: on this machine, in
    files; in the database of `connection`; or on its Spark cluster and in `lake`."""
    connection: str | None = None
    """The name of a table of `connections`, whose URL is of the kind of `engine`, as
    postgresql://…; needed unless `engine` is "local"."""
    lake: str | None = None
    """The folder or URL (s3a://…, gs://…, abfss://…) of the Delta tables of snapshots, which both
    Spark and this machine reach; needed if `engine` is "spark"."""
    spill_dir: str | None = None
    """The absolute path of the folder of the temporary files that hold the uids being compared;
    None means the cohort's snapshot folder. The files have no names, and disappear with the
    process."""
