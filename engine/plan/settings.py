"""How a mirror behaves besides what its guards allow."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """What a mirror waits for, and what it keeps."""

    settle_seconds: Annotated[float, Ge(0)] = 900.0
    """How late the far side may apply an accepted request: a change that reverses one of the same
    uid waits so long after its last attempt."""
    keep_generations: Annotated[int, Ge(1)] = 14
    """Snapshots kept, the one that counts included."""
    retry_rejected_days: Annotated[float, Ge(0)] = 7.0
    """How long a uid that the API rejected is left alone before it is tried again."""
