"""The ceiling: its arithmetic (`Schedule`, `Gate`, `Budget`) and the waiting (`Pacer`).

aiolimiter's leaky bucket gives the pace: it leaks `requests` per `per_seconds` and holds a handful,
so that a wake-up that comes late is caught up at once. By itself it would let a full bucket through
on top of a window's worth, after every start and every pause. The law around it is a log of send
times: a send may go when the `requests`-th before it lies a window and a margin back. The log is
the ledger's attempts, so a restart goes on inside it.

The margin pays for jitter on the way in, which compresses what the server sees. The spread of the
round trips is the most that the way in can have; it is taken, up to 1 % of the window, and a 429
that comes although the law was kept widens it further. If 429s go on all the same, the ceiling is
lower than configured: the pace steps down to what was let through, and feels its way up again.
"""

from engine.pacing.budget import Budget, Cause, Spending
from engine.pacing.gate import LONGEST_HOLD_SECONDS, Gate
from engine.pacing.pacer import CATCH_UP, NEAR_SECONDS, Pacer, PaceRecord, Turn
from engine.pacing.schedule import (
    LARGEST_MARGIN,
    SMALLEST_MARGIN,
    TRUSTED_ROUND_TRIPS,
    WIDEST_MARGIN,
    Schedule,
)
from engine.pacing.settings import PacingSettings

__all__ = [
    "CATCH_UP",
    "LARGEST_MARGIN",
    "LONGEST_HOLD_SECONDS",
    "NEAR_SECONDS",
    "SMALLEST_MARGIN",
    "TRUSTED_ROUND_TRIPS",
    "WIDEST_MARGIN",
    "Budget",
    "Cause",
    "Gate",
    "PaceRecord",
    "Pacer",
    "PacingSettings",
    "Schedule",
    "Spending",
    "Turn",
]
