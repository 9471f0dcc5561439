"""Settings for the ceiling."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le


@dataclass(frozen=True, slots=True)
class PacingSettings:
    """The API's ceiling: `requests` in any `per_seconds`, for the whole workspace."""

    requests: Annotated[int, Ge(1), Le(10_000_000)] = 300
    """The most requests in any window."""
    per_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """The length of the window in seconds."""
