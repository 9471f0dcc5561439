"""Clocks that are passed in: monotonic seconds, and stamps that other processes can compare."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that a later process can compare with its own, after another boot too."""

    boot_id: str
    """Identifies this boot of the machine; empty if the system has no such id."""
    boot_ns: int
    """Nanoseconds since that boot, time asleep included."""
    utc_ns: int
    """Nanoseconds since 1970, which an administrator or NTP may step."""

    def age_at(self, now: "Stamp") -> float:
        """Return the seconds from this moment until `now`, never less than 0.

        Within one boot the boot time counts, however the wall clock was set. Across boots the wall
        clock counts; a moment that seems to lie in the future counts as now, so that a
        clock step can't make a send look older than it may be.
        """
        if self.boot_id and self.boot_id == now.boot_id:
            return max(0.0, (now.boot_ns - self.boot_ns) / 1e9)
        return max(0.0, (now.utc_ns - self.utc_ns) / 1e9)


class Clock(Protocol):
    """The clock of the engine."""

    def now(self) -> float:
        """Seconds that only grow, on the same scale as the event loop's own."""

    def stamp(self) -> Stamp:
        """Return the present moment, for the ledger."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return the monotonic clock, in seconds."""
        return time.monotonic()

    def stamp(self) -> Stamp:
        """Read boot time and wall clock."""
        # CLOCK_BOOTTIME goes on while a laptop sleeps, as the API's window does; where the system
        # lacks it there is no boot id either, and the wall clock gives ages.
        boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return Stamp(_boot_id(), time.clock_gettime_ns(boot_clock), time.time_ns())


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
