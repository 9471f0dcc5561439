"""What the cohorts share that a sync sends under one ceiling."""

from collections.abc import Mapping, Sequence

from engine.config.cohort_settings import CohortSettings
from engine.model.time_of_day import next_moment
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import PacingSettings
from engine.sync.ceiling_use import CeilingUse
from engine.sync.context import SyncContext
from engine.sync.ranked_slots import RankedSlots
from engine.sync.remaining_work import RemainingWork

AT_ONCE = 4
"""Cohorts under one ceiling that are under way at the same time.

While one sends, the next ones are planned, so that the ceiling has no pause between two cohorts.
How many are compared at a time, in all workspaces, is `SyncContext.planning`.
"""
LENDABLE = 12
"""Cohorts that may lend their slot while they wait, so that at most 16 are under way."""


class SharedCeiling:
    """The order, the slots and the remaining work of the cohorts of a workspace of the API.

    The workspace may have several names in the configuration, one for each partner.
    """

    def __init__(
        self, pacing: PacingSettings, cohorts: Sequence[CohortSettings], sync: SyncContext
    ) -> None:
        """`cohorts` are in the order in which they are sent."""
        self.slots = RankedSlots(AT_ONCE, lendable=LENDABLE)
        self.ranks: Mapping[str, int] = {each.key: rank for rank, each in enumerate(cohorts)}
        """The place of each cohort in the order, from 0, by its key."""
        self.deadlines = {each.key: _deadline(each, sync) for each in cohorts}
        """By the cohort's key, in ns since 1970; None: it has none."""
        ceiling = HourlyCeiling(pacing)
        self.work = RemainingWork(self.deadlines, ceiling)
        self.use = CeilingUse(ceiling)
        sync.uses.append(self.use)


def _deadline(cohort: CohortSettings, sync: SyncContext) -> int | None:
    ends = [each for each in (cohort.deadline, sync.request.until) if each is not None]
    return min((next_moment(each, sync.started_utc_ns, sync.zone) for each in ends), default=None)
