"""Whether the API is there at all, judged by what comes back and for how long nothing has."""

from engine.delivery.outcome import Abort, NotSent, Unconfirmed
from engine.delivery.transport import Exchange


class Outage:
    """Follows the outcomes; pure bookkeeping over times that are passed in.

    With `nobody_listens_hint`, a connection refused before any answer is an outage at once.
    """

    def __init__(self, give_up_after_seconds: float, nobody_listens_hint: str | None) -> None:
        self._give_up_after_seconds = give_up_after_seconds
        self._nobody_listens_hint = nobody_listens_hint
        self._was_answered = False
        self._since: float | None = None

    def judge(self, exchange: Exchange, began: float, now: float) -> Abort | None:
        """Hear of an attempt that `began` some time ago; return why to give up, if it is time.

        Only failures in a row count. A 429 is an answer: the API is there.
        """
        outcome = exchange.outcome
        self._was_answered = self._was_answered or exchange.http_status is not None
        if not isinstance(outcome, NotSent | Unconfirmed):
            self._since = None
            return None
        is_refused = isinstance(outcome, NotSent) and outcome.nobody_listens
        if self._nobody_listens_hint and is_refused and not self._was_answered:
            reason = "nothing listens there: the connection was refused"
            return Abort(reason, self._nobody_listens_hint)
        if self._since is None:
            self._since = began
        down = now - self._since
        if down < self._give_up_after_seconds:
            return None
        return Abort(
            f"the API has not answered usefully for {down:.0f} s; last: {outcome.reason}",
            "`cohortsync check` tells what is in the way, if anything is; then run the same "
            "command again to go on",
        )
