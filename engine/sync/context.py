"""What all cohorts of a sync share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.config.settings import SyncSettings
from engine.delivery.stop import StopSwitch
from engine.model.time_of_day import local_time
from engine.report.accounts import share_of_ceiling
from engine.sync.ceiling_use import CeilingUse
from engine.sync.ranked_slots import RankedSlots
from engine.sync.request import SyncObservers, SyncRequest

if TYPE_CHECKING:
    from engine.notices.sync_notices import SyncNotices

_LONGEST_SLEEP_SECONDS = 30.0
"""After this time a timer reads the wall clock again, which may have been set."""
PLANNED = 12
"""Cohorts of all workspaces that may lend the slot of planning while they wait for their export."""


@dataclass(slots=True)
class SyncContext:
    """The request, the observers and the bounds of one sync."""

    name: str
    request: SyncRequest
    observers: SyncObservers
    settings: SyncSettings
    clock: Clock
    started_utc_ns: int
    zone: tzinfo | None
    """The zone of times of day and dates; None for the system's."""
    dates: Mapping[str, date] = field(default_factory=dict)
    """The dates of the cohorts' exports, by the cohort's key."""
    planning: RankedSlots = field(default_factory=lambda: RankedSlots(1, lendable=PLANNED))
    """Comparisons take the whole of `plan.memory_megabytes`, so one runs at a time."""
    computing: RankedSlots = field(default_factory=lambda: RankedSlots(1))
    """A snapshot takes as much again, and is made while others are planned: one at a time, too."""
    sent: int = 0
    """Requests sent so far, in all workspaces."""
    uses: list[CeilingUse] = field(default_factory=list)
    """How each workspace uses its ceiling."""
    notices: "SyncNotices | None" = None
    """Metrics, notifications and what follows each cohort; None for a dry run."""

    @property
    def switch(self) -> StopSwitch:
        """Stops the whole sync."""
        return self.observers.switch

    @property
    def started(self) -> datetime:
        """The local time at which the sync began."""
        return local_time(self.started_utc_ns, self.zone)

    def note_sent(self) -> None:
        """Count a request; after the last one that is allowed, stop the sync."""
        self.sent += 1
        if self.sent == self.request.max_requests:
            self.switch.drain(f"the {self.sent:,} requests of --max-requests are sent")

    @property
    def ceiling_use(self) -> float | None:
        """The requests sent, as a share of those that all ceilings allowed; None without any."""
        allowed = sum(each.allowed for each in self.uses)
        return share_of_ceiling(self.sent, allowed) if allowed else None

    async def stop_at(self, utc_ns: int, switch: StopSwitch, reason: str) -> None:
        """Stop what a switch stops at a moment of the wall clock."""
        while (left := (utc_ns - self.clock.stamp().utc_ns) / 1e9) > 0:  # noqa: ASYNC110 - it waits for a time
            await asyncio.sleep(min(left, _LONGEST_SLEEP_SECONDS))
        switch.drain(reason)
