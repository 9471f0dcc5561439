"""The limits on memory, threads and disk of a comparison."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """Limits on memory, threads and disk for the comparison of an export with a snapshot."""

    memory_megabytes: Annotated[int, Ge(64), Le(100_000_000)] = 2000
    """DuckDB's limit; above it, DuckDB spills to disk. The process takes up to 1.5 times this."""
    threads: Annotated[int, Ge(0), Le(256)] = 0
    """Number of threads; 0 means one for each core."""
    spill_dir: str | None = None
    """The absolute path of the folder to spill into; None means the cohort's snapshot folder."""
