"""How requests are carried."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Bounds on what is under way at once, and for how long."""

    max_in_flight: Annotated[int, Ge(1), Le(10_000)] = 64
    """Batches begun and not yet settled, those that wait for a retry included."""
    timeout_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """From a request's head to the end of its answer; connecting has the same bound of its own."""
    drain_seconds: Annotated[float, Ge(0), Le(86_400)] = 30.0
    """How long a stop waits for the answers of requests under way."""
