"""Injectable clocks: monotonic seconds, and stamps that other processes can compare."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that a later process can compare with its own, even after a reboot."""

    boot_id: str
    """Identifies this boot of the machine; empty if the system has no such id."""
    boot_ns: int
    """Nanoseconds since that boot, including time asleep."""
    utc_ns: int
    """Nanoseconds since 1970; an administrator or NTP may step this clock."""

    def age_at(self, now: "Stamp") -> float:
        """Return the seconds from this moment until `now`, never less than 0.

        Within one boot the age is the difference of boot times, independent of the wall clock.
        Across boots it is the difference of wall clocks. A moment in the future counts as now, so
        that a clock step can't make a send seem older than it may be.
        """
        if self.boot_id and self.boot_id == now.boot_id:
            return max(0.0, (now.boot_ns - self.boot_ns) / 1e9)
        return max(0.0, (now.utc_ns - self.utc_ns) / 1e9)


# It advances while a laptop sleeps, as the API's window does. A system without it has no boot id
# either, so ages come from the wall clock.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The clock of the engine."""

    def now(self) -> float:
        """Return monotonic seconds, on the scale of the event loop's clock."""

    def stamp(self) -> Stamp:
        """Return the present moment, for the ledger."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.monotonic)

    def stamp(self) -> Stamp:
        """Read boot time and wall clock."""
        return Stamp(_boot_id(), time.clock_gettime_ns(_BOOT_CLOCK), time.time_ns())


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
