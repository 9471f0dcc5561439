"""Whether the API is there at all, judged by what comes back and for how long nothing has."""

from engine.delivery.outcome import Abort, Exchange, NotSent, Throttled, Unconfirmed
from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus


class Outage:
    """Follows the outcomes; pure bookkeeping over times that are passed in.

    With `nobody_listens_hint`, a connection refused before any answer is an outage at once.
    """

    def __init__(self, settings: RetrySettings, nobody_listens_hint: str | None) -> None:
        self._settings = settings
        self._nobody_listens_hint = nobody_listens_hint
        self._was_answered = False
        self._counted_until: float | None = None
        """Up to when time is counted; None after a useful answer."""
        self._failed_seconds = 0.0
        self._throttled_seconds = 0.0
        self._was_throttled = False
        """Whether the last attempt met a 429, which those after it wait out."""

    def judge(self, exchange: Exchange, began: float, now: float) -> Abort | None:
        """Take an attempt that `began` some time ago into account; return why to give up, if so.

        A 429 is an answer: the API is there. Time spent on 429s is no outage, and has a limit of
        its own. A useful answer starts both anew, and nothing else does.
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
        """Count the time up to `now`; the wait before an attempt is for the one before it."""
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
