"""What the ceiling allows while a run or a sync is shown, by the monotonic clock of the views."""

import time
from collections.abc import Callable

from engine.pacing.hourly_ceiling import HourlyCeiling


def allowed_between(ceiling: HourlyCeiling) -> Callable[[float, float], float]:
    """Return what a ceiling allows between two times of the monotonic clock, in seconds."""

    def allowed(start: float, end: float) -> float:
        offset = time.time_ns() - time.monotonic_ns()
        start_ns, end_ns = (round(each * 1e9) + offset for each in (start, end))
        return ceiling.allowed_between(start_ns, end_ns)

    return allowed
