"""Detects an outage of the API from outcomes and from the time without useful answers."""

from engine.delivery.decision import Abort
from engine.delivery.outcome import Exchange, NotSent, Throttled, Unconfirmed
from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus


class Outage:
    """Counts the time without useful answers; pure: times are passed in.

    With `nobody_listens_hint`, a connection refused before any answer is an immediate outage.
    """

    def __init__(self, settings: RetrySettings, nobody_listens_hint: str | None) -> None:
        self._settings = settings
        self._nobody_listens_hint = nobody_listens_hint
        self._was_answered = False
        self._counted_until: float | None = None
        """The time up to which outages are counted; None after a useful answer."""
        self._failed_seconds = 0.0
        self._throttled_seconds = 0.0
        self._was_throttled = False
        """Whether the last attempt got a 429; the wait before the next attempt is due to it."""

    def judge(self, exchange: Exchange, began: float, now: float) -> Abort | None:
        """Count an attempt that lasted from `began` to `now`; return an `Abort` to stop the run.

        A 429 is an answer, so the API is available. Time spent on 429s is not an outage and has its
        own limit. Only a useful answer resets both counters.
        """
        outcome = exchange.outcome
        self._was_answered = self._was_answered or exchange.http_status is not None
        if not isinstance(outcome, NotSent | Unconfirmed | Throttled):
            self._counted_until = None
            return None
        is_refused = isinstance(outcome, NotSent) and outcome.nobody_listens
        if self._nobody_listens_hint and is_refused and not self._was_answered:
            reason = "nothing listens there: the connection was refused"
            return Abort(reason, self._nobody_listens_hint, ExitStatus.INCOMPLETE)
        is_throttled = isinstance(outcome, Throttled)
        self._count(began, now, is_throttled=is_throttled)
        if self._throttled_seconds >= self._settings.give_up_throttled_after_seconds:
            return Abort(
                f"the API has throttled all requests for {self._throttled_seconds:.0f} s",
                "see what else uses this workspace's ceiling, and whether `limits.requests` is "
                "above it; then run the same command again to go on",
                ExitStatus.INCOMPLETE,
            )
        failed = self._failed_seconds
        if isinstance(outcome, Throttled) or failed < self._settings.give_up_after_seconds:
            return None
        return Abort(
            f"the API has not answered usefully for {failed:.0f} s; last: {outcome.reason}",
            "`cohortsync check` shows what is in the way, if anything is; then run the same "
            "command again to go on",
            ExitStatus.INCOMPLETE,
        )

    def _count(self, began: float, now: float, *, is_throttled: bool) -> None:
        """Count the time up to `now`; a wait before an attempt counts for the previous attempt."""
        if self._counted_until is None:
            self._counted_until = began
            self._failed_seconds = self._throttled_seconds = 0.0
            self._was_throttled = is_throttled
        waited = max(0.0, began - self._counted_until)
        tried = max(0.0, now - max(began, self._counted_until))
        for seconds, was_throttled in ((waited, self._was_throttled), (tried, is_throttled)):
            if was_throttled:
                self._throttled_seconds += seconds
            else:
                self._failed_seconds += seconds
        self._counted_until = max(now, self._counted_until)
        self._was_throttled = is_throttled
