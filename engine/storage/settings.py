"""How much of the machine a comparison may take."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """The memory, threads and disk that comparing an export with a snapshot may take."""

    memory_megabytes: Annotated[int, Ge(64), Le(100_000_000)] = 2000
    """DuckDB's limit; beyond it, it spills to disk. The process takes up to half as much again."""
    threads: Annotated[int, Ge(0), Le(256)] = 0
    """0: as many as there are cores."""
    spill_dir: str | None = None
    """Where to spill, absolute; None: in the cohort's snapshot folder."""
