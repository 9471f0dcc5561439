"""Why a delivery ends before its export does, and the switch that stops it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from engine.errors import CohortSyncError, ExitStatus, IncompleteError


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a delivery ended before its export did."""

    exit_status: ExitStatus
    reason: str
    hint: str | None = None
    error: CohortSyncError | None = None
    """The error behind it, if that is what it was."""

    @classmethod
    def of(cls, error: CohortSyncError) -> "Stop":
        """Make an error the reason."""
        return cls(error.exit_status, error.message, error.hint, error)


class StopSwitch:
    """Passes a stop to all the work under way; for use within one thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Stop], None]] = []
        self._pending: Stop | None = None

    @property
    def is_pulled(self) -> bool:
        """Whether a stop has come."""
        return self._pending is not None

    def refuse_if_pulled(self) -> None:
        """Raise `IncompleteError` if a stop has come."""
        if self._pending is not None:
            raise IncompleteError(self._pending.reason, hint=self._pending.hint)

    def pull(self, reason: str) -> None:
        """Stop intake everywhere; pulled again, cancel what is under way."""
        self._pending = Stop(ExitStatus.INCOMPLETE, reason, "run the same command again to go on")
        with ExitStack() as listeners:  # Each is called, even if another one raises.
            for listener in reversed(self._listeners):
                listeners.callback(listener, self._pending)

    @contextmanager
    def connected(
        self, listener: Callable[[Stop], None], *, hears_earlier: bool = True
    ) -> Iterator[None]:
        """Call `listener` with each stop during the block, besides all others that are connected.

        If it `hears_earlier` stops, one that came before the block reaches it at once.
        """
        self._listeners.append(listener)
        try:
            if self._pending is not None and hears_earlier:
                listener(self._pending)
            yield
        finally:
            self._listeners.remove(listener)
