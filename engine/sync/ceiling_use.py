"""How many of the requests that a workspace's ceiling allows a sync sends."""

from dataclasses import dataclass

from engine.pacing.hourly_ceiling import HourlyCeiling


@dataclass(slots=True)
class CeilingUse:
    """Counts the requests of all cohorts of a workspace; times are ns since 1970.

    The sums of their runs say something else: a run may have sent a part before this sync, and a
    request that no run sent is lost in each run that was being delivered.
    """

    ceiling: HourlyCeiling
    sent: int = 0
    _first: int = 0
    _last: int = 0

    def note_sent(self, utc_ns: int) -> None:
        """Count a request."""
        if not self.sent:
            self._first = utc_ns
        self.sent += 1
        self._last = utc_ns

    @property
    def allowed(self) -> float:
        """The requests that the ceiling allowed from the first one to the last one."""
        if not self.sent:
            return 0.0
        return 1 + self.ceiling.allowed_between(self._first, self._last)
