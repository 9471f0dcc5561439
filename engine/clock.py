"""Time as something passed in: seconds that only grow, and stamps that outlive the process."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that a later process, or a later boot of the machine, can place."""

    boot_id: str
    """Names this boot of the machine; empty where the system does not tell."""
    boot_ns: int
    """Nanoseconds since that boot, time asleep included."""
    utc_ns: int
    """Nanoseconds since 1970, which an administrator or NTP may step."""

    def age_at(self, now: "Stamp") -> float:
        """Return the seconds from this moment until `now`, never less than 0.

        Within one boot the boot time tells, whatever happened to the wall clock. Across boots only
        the wall clock is left; a moment that seems to lie in the future counts as now, so that a
        clock step can't make a send look older than it may be.
        """
        if self.boot_id and self.boot_id == now.boot_id:
            return max(0.0, (now.boot_ns - self.boot_ns) / 1e9)
        return max(0.0, (now.utc_ns - self.utc_ns) / 1e9)


class Clock(Protocol):
    """What the engine asks of time."""

    def now(self) -> float:
        """Seconds that only grow, on the same scale as the event loop's own."""

    def stamp(self) -> Stamp:
        """Return the present moment, fit to be kept in the ledger."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return the monotonic clock, in seconds."""
        return time.monotonic()

    def stamp(self) -> Stamp:
        """Read boot time and wall clock."""
        # CLOCK_BOOTTIME goes on while a laptop sleeps, as the API's window does; where the system
        # lacks it there is no boot id either, and ages are told by the wall clock.
        boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return Stamp(_boot_id(), time.clock_gettime_ns(boot_clock), time.time_ns())


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
