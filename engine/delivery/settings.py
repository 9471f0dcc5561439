"""Settings for sending requests."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Limits on concurrent batches and on durations."""

    max_in_flight: Annotated[int, Ge(1), Le(10_000)] = 64
    """Most requests at once, and most batches begun and not settled, of each run.

    These include batches that wait for a retry. Each request may have a connection of its own.
    """
    timeout_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """From a request's head to the end of its answer; the same limit applies to connecting."""
    drain_seconds: Annotated[float, Ge(0), Le(86_400)] = 30.0
    """How long a stop waits for answers to requests in flight."""
