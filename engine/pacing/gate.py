"""The gate that a 429 closes for everyone; times are seconds of one clock."""

LONGEST_HOLD_SECONDS = 600.0
"""The longest Retry-After that is obeyed; then a probe asks again, which costs one request."""
PROBES_ON_TRUST = 3
"""Refused probes in a row after which the wait may exceed Retry-After."""


class Gate:
    """Whether requests may be sent: closed after a 429, then open for one probe, then for all."""

    def __init__(self, per_seconds: float) -> None:
        self._per_seconds = per_seconds
        self._closed_at = float("-inf")
        self.opens_at = float("-inf")
        """The time from which a request may be sent, unless a probe is under way."""
        self.probe_is_out = False
        """Whether a probe is under way; until it is answered, nothing else is sent."""
        self._probe_due = False
        self._strikes = 0

    def let_pass(self) -> bool:
        """Let one send through; true if it is the probe."""
        self.probe_is_out = self._probe_due
        self._probe_due = False
        return self.probe_is_out

    def throttle(self, now: float, sent_at: float, retry_after: float | None) -> bool:
        """Close after a 429 for `retry_after` seconds, or for the backoff.

        Returns whether this 429 is news: that of a request sent before the gate closed was to be
        expected, and affects neither the backoff nor the margin.
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

    def settle_probe(self, *, answered: bool) -> None:
        """Open after a probe that was answered with anything but a 429; else send another one."""
        self.probe_is_out = False
        self._probe_due = not answered
        if answered:
            self._strikes = 0
