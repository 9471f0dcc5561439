"""The emulator's own counts of requests, which share no code with the client."""

from collections import Counter, deque
from typing import Any

from engine.emulator.limiters import LimiterModel, LimitSettings


class Arrivals:
    """The arrival times of one workspace's authenticated requests, including refused ones."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._times: deque[float] = deque()
        self.requests = 0
        self.most_in_window = 0

    def note(self, now: float) -> int:
        """Count a request at `now`; return the number of requests in the window that ends then."""
        times = self._times
        times.append(now)
        while now - times[0] >= self._window:
            times.popleft()
        self.requests += 1
        self.most_in_window = max(self.most_in_window, len(times))
        return len(times)


class Counts:
    """The content of the report, except the cohorts."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._workspaces: dict[str, Arrivals] = {}
        self.requests = 0
        self.accepted = 0
        self.statuses: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.breaches: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bytes_received = 0
        self.uids_received = 0
        self.uids_applied = 0

    def arrive(self, workspace: str, now: float) -> None:
        """Count an authenticated request; one more than the limit in any window is a breach."""
        arrivals = self._workspaces.get(workspace)
        if arrivals is None:
            arrivals = self._workspaces[workspace] = Arrivals(self._limits.per_seconds)
        in_window = arrivals.note(now)
        if self._limits.model is not LimiterModel.NONE and in_window > self._limits.requests:
            self.breaches["over_ceiling"] += 1

    def report(self) -> dict[str, Any]:
        """Return all counts as JSON values."""
        return {
            "requests": {
                "received": self.requests,
                "accepted": self.accepted,
                "by_status": _in_order(self.statuses),
                "unanswered": _in_order(self.unanswered),
            },
            "bytes_received": self.bytes_received,
            "uids": {"received": self.uids_received, "applied": self.uids_applied},
            "workspaces": {
                name: {
                    "requests": arrivals.requests,
                    "most_in_window": arrivals.most_in_window,
                    "window_seconds": self._limits.per_seconds,
                }
                for name, arrivals in self._workspaces.items()
            },
            "breaches": _in_order(self.breaches),
            "faults": _in_order(self.faults),
        }


def _in_order(counter: Counter[str]) -> dict[str, int]:
    """Sort by key; a key that is a member of an enum becomes the plain string that JSON takes."""
    return {str(key): counter[key] for key in sorted(counter)}
