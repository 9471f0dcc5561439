"""When a delivery would be done, by arithmetic: no outage, no refusal, a source that keeps up."""

from dataclasses import dataclass

from engine.pacing.schedule import SMALLEST_SLACK
from engine.pacing.settings import PacingSettings

LARGE_MARGIN = 1 / 100
"""A share of the window: the margin where requests arrive 560 ms late on average."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many requests it takes, and how long: with the least margin, and with a large one."""

    requests: int
    least_seconds: float
    most_seconds: float


def forecast(uids: int, uids_a_request: int, ceiling: PacingSettings) -> Forecast:
    """Forecast the delivery of `uids`, at least 1, with nothing sent in the window before.

    The time is that from the first request to the last; its answer comes on top.
    """
    requests = -(-uids // uids_a_request)
    full_windows = (requests - 1) // ceiling.requests
    paced = (requests - 1) * ceiling.per_seconds / ceiling.requests
    # The margin is paid once for each window behind; an even pace needs none within one.
    stretch = full_windows * ceiling.per_seconds
    return Forecast(requests, paced + stretch * SMALLEST_SLACK, paced + stretch * LARGE_MARGIN)
