"""The ceiling: its arithmetic (`Schedule`, `Gate`, `Budget`) and the waiting (`Pacer`).

aiolimiter's leaky bucket sets the pace: it leaks `requests` per `per_seconds` and holds a few, so
that a late wake-up is caught up at once. By itself it would send a full bucket in addition to a
window's requests, after every start and every pause. The window limit is therefore a log of send
times: a request may be sent when the `requests`-th before it is a window and a margin old. The log
is the ledger's attempts, so it includes those before a restart.

The margin allows for jitter of arrival, which makes requests denser at the server. The spread of
the round trips is an upper bound of that jitter; it is the margin, up to 1 % of the window, and a
429 within the window limit widens it. If 429s continue, the ceiling is lower than configured: the
pace steps down to the rate that was accepted, and then up again in small steps.
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
