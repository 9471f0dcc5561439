"""What the pacer needs of a ceiling that processes on several hosts share."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class SlotEnd(StrEnum):
    """How a request ended."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"
    """Any other answer than an acceptance and a 429."""
    FAILED = "failed"
    """There is no answer, and none will come."""
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Slot:
    """The permission of the shared ceiling to send one request now."""

    id: str
    is_alone: bool = False
    """Whether the process goes by its own limits, since the others cannot be asked."""
    is_probe: bool = False
    elsewhere: int = 0
    """Requests that other processes have sent since the last slot of this one."""
    held_seconds: float = 0.0
    """How long a closed gate has delayed it."""


class Slots(Protocol):
    """A ceiling that processes on several hosts share; it also keeps the gate for all of them."""

    @property
    def share(self) -> float:
        """The share of the ceiling that this process may use by itself; 1 while all share it."""

    @property
    def clock_offset_ns(self) -> int:
        """How far the wall clock that all go by is ahead of this host's; 0 until it is known."""

    @property
    def found(self) -> int | None:
        """The ceiling after the last step down due to 429s of any process; None without one."""

    async def take(self, requests: int) -> Slot:
        """Wait until one request may be sent, `requests` being the most in a window now.

        The caller sends at once, and calls `finish` in any case. Raises a `CohortSyncError` if the
        ceiling cannot be shared any more.
        """

    def finish(
        self, slot: Slot, sent_at: float, end: SlotEnd, shortest: float, retry_after: float | None
    ) -> None:
        """Report the end of a request that was sent at `sent_at`, in seconds of the clock.

        `shortest` is the shortest recent round trip of this process; `retry_after` is that of a
        429.
        """
