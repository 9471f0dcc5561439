"""Settings for the ceiling."""

from dataclasses import dataclass, field
from datetime import time, tzinfo
from typing import Annotated, Self
from zoneinfo import ZoneInfo

import orjson
from annotated_types import Ge, Le

NO_KEY = {"is_key": False}
"""The metadata of a field that is read from tables of its own."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of each day with a ceiling of their own."""

    start: time
    end: time
    """Excluded. Before `start`, it is of the next day."""
    requests: int
    """The most requests in any window; 0 sends nothing."""

    def include(self, at: time) -> bool:
        """Return whether a time of the day is within the hours."""
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end

    def to_dict(self) -> dict[str, str | int]:
        """Return the hours as the configuration has them."""
        return {
            "from": f"{self.start:%H:%M}",
            "until": f"{self.end:%H:%M}",
            "requests": self.requests,
        }


@dataclass(frozen=True, slots=True)
class PacingSettings:
    """The API's ceiling: `requests` in any `per_seconds`, for the whole workspace."""

    requests: Annotated[int, Ge(1), Le(10_000_000)] = 300
    """The most requests in any window."""
    per_seconds: Annotated[float, Ge(0.001), Le(86_400)] = 60.0
    """The length of the window in seconds."""
    hours: tuple[Hours, ...] = field(default=(), metadata=NO_KEY)
    """Hours in which another number than `requests` holds; they do not overlap."""
    zone: tzinfo | None = field(default=None, metadata=NO_KEY)
    """The zone of the hours; None for the system's."""

    @property
    def most(self) -> int:
        """The largest number of requests in any window, at any time of the day."""
        return max(self.requests, *(each.requests for each in self.hours), 0)

    def requests_by_clock(self, at: time) -> int:
        """Return the most requests in any window at a time of the day."""
        return next((each.requests for each in self.hours if each.include(at)), self.requests)

    def hours_record(self) -> str:
        """Return the hours as text for the ledger; it is empty if there are none."""
        if not self.hours:
            return ""
        zone = self.zone.key if isinstance(self.zone, ZoneInfo) else None
        hours = [each.to_dict() for each in self.hours]
        return orjson.dumps({"zone": zone, "hours": hours}).decode()

    @classmethod
    def from_record(cls, requests: int, per_seconds: float, hours: str) -> Self:
        """Return the settings that the ledger has; raises `ValueError` for no such record."""
        if not hours:
            return cls(requests, per_seconds)
        try:
            found = orjson.loads(hours)
            zone = None if found["zone"] is None else ZoneInfo(found["zone"])
            entries = tuple(
                Hours(
                    time.fromisoformat(each["from"]),
                    time.fromisoformat(each["until"]),
                    int(each["requests"]),
                )
                for each in found["hours"]
            )
        except (KeyError, TypeError, OSError) as error:
            raise ValueError(f"no record of hours: {error}") from error
        return cls(requests, per_seconds, entries, zone)
