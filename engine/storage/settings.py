"""How a mirror behaves besides what its guards allow, and how much of the machine it takes."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """What a mirror waits for, and what it keeps."""

    settle_seconds: Annotated[float, Ge(0), Le(604_800)] = 900.0
    """How late the far side may apply an accepted request: a change that reverses one of the same
    uid waits so long after its last attempt."""
    keep_generations: Annotated[int, Ge(1), Le(10_000)] = 14
    """Snapshots kept, the one that counts included."""
    retry_rejected_days: Annotated[float, Ge(0), Le(36_500)] = 7.0
    """How long a uid that the API rejected is left alone before it is tried again."""
    resend_over_nights: Annotated[int, Ge(0), Le(10_000)] = 0
    """Nights over which all members are added once more, a slice a night, newest first: the API
    ignores uids that it does not know yet, and they may have signed up since. 0: never."""
    resend_requests: Annotated[int, Ge(1), Le(10_000_000)] = 3000
    """The most requests that a slice may take; the round then takes more nights."""


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """The memory, threads and disk that comparing an export with a snapshot may take."""

    memory_megabytes: Annotated[int, Ge(64), Le(100_000_000)] = 2000
    """DuckDB's limit; beyond it, it spills to disk. The process takes up to half as much again."""
    threads: Annotated[int, Ge(0), Le(256)] = 0
    """0: as many as there are cores."""
    spill_dir: str | None = None
    """Where to spill, absolute; None: beside the plan."""
