"""The gate that a 429 closes for all requests; times are seconds of one clock."""

LONGEST_HOLD_SECONDS = 600.0
"""The longest wait for a Retry-After; then a probe is sent, which costs one request."""
PROBES_ON_TRUST = 3
"""Consecutive refused probes after which the wait may exceed Retry-After."""


class Gate:
    """Controls whether requests may be sent: closed after a 429, then one probe, then open."""

    def __init__(self, per_seconds: float) -> None:
        self._per_seconds = per_seconds
        self._closed_at = float("-inf")
        self.opens_at = float("-inf")
        """The time from which a request may be sent, unless a probe is in flight."""
        self.probe_is_out = False
        """Whether a probe is in flight; no other request is sent until it ends."""
        self._probe_due = False
        self._strikes = 0

    def is_closed(self, now: float) -> bool:
        """Return whether a request has to wait, for the end of the probe or for `opens_at`."""
        return self.probe_is_out or self.opens_at > now

    def let_pass(self) -> bool:
        """Pass one request; return whether it is the probe."""
        self.probe_is_out = self._probe_due
        self._probe_due = False
        return self.probe_is_out

    def throttle(self, now: float, sent_at: float, retry_after: float | None) -> bool:
        """Close after a 429 for `retry_after` seconds, or for the backoff.

        Returns whether this 429 is new. A 429 for a request sent before the gate closed is expected
        and affects neither the backoff nor the margin.
        """
        is_news = sent_at >= self._closed_at
        if is_news:
            self._strikes += 1
            self._closed_at = now
        backoff = min(self._per_seconds, 2.0 ** min(max(self._strikes - 1, 0), 30))
        hold = backoff if retry_after is None else min(retry_after, LONGEST_HOLD_SECONDS)
        if self._strikes > PROBES_ON_TRUST:
            hold = max(hold, backoff)
        self.opens_at = max(self.opens_at, now + hold)
        self._probe_due, self.probe_is_out = True, False
        return is_news

    def hold(self, now: float, seconds: float) -> None:
        """Close for the rest of the wait that an earlier 429 asked for."""
        self.opens_at = max(self.opens_at, now + min(seconds, LONGEST_HOLD_SECONDS))
        self._probe_due = True

    def settle_probe(self, *, answered: bool) -> None:
        """Open after a probe with an answer other than a 429; otherwise request a new probe."""
        self.probe_is_out = False
        self._probe_due = not answered
        if answered:
            self._strikes = 0
