"""The requests that a process has sent in the last window, for a server that has lost them."""

from dataclasses import dataclass

from engine.coordination.ceiling_script import End


@dataclass(slots=True)
class _Sent:
    sent_at: float
    ended_at: float | None = None


class RecentSends:
    """Remembers requests by their names; times are seconds of one clock."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}

    def add(self, name: str, now: float) -> None:
        """Remember a request that is sent now."""
        self._sent[name] = _Sent(now)

    def drop(self, name: str) -> None:
        """Forget a request that was not sent after all."""
        self._sent.pop(name, None)

    def end(self, name: str, now: float) -> None:
        """Remember that a request has ended now."""
        if (sent := self._sent.get(name)) is not None:
            sent.ended_at = now

    def forget(self, before: float) -> None:
        """Forget the requests that had ended before a time."""
        self._sent = {
            name: each
            for name, each in self._sent.items()
            if each.ended_at is None or each.ended_at >= before
        }

    def ends(self, timeout: float) -> list[End]:
        """Return what to tell a server; a request without an end ends after `timeout` seconds."""
        return [
            End(name, "open", each.sent_at, each.sent_at, timeout)
            if each.ended_at is None
            else End(name, "past", each.sent_at, each.ended_at)
            for name, each in self._sent.items()
        ]
