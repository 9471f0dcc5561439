"""The reason for stopping a delivery early, and the switch that stops it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from engine.errors import CohortSyncError, ExitStatus, IncompleteError


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a delivery ended before the end of its export."""

    exit_status: ExitStatus
    reason: str
    hint: str | None = None
    error: CohortSyncError | None = None
    """The error that caused it, if any."""
    cancels: bool = False
    """Whether it also cancels the requests in flight."""

    @classmethod
    def of(cls, error: CohortSyncError) -> "Stop":
        """Return a stop caused by `error`."""
        return cls(error.exit_status, error.message, error.hint, error)


class StopSwitch:
    """Passes a stop to all connected listeners; for use within one thread."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Stop], None]] = []
        self._pending: Stop | None = None
        self._is_pulled_by_caller = False

    @property
    def pending(self) -> Stop | None:
        """The latest stop that was requested."""
        return self._pending

    @property
    def is_pulled(self) -> bool:
        """Whether a stop was requested."""
        return self._pending is not None

    @property
    def is_pulled_by_caller(self) -> bool:
        """Whether the caller, and not only a limit of the work, requested a stop."""
        return self._is_pulled_by_caller

    def refuse_if_pulled(self) -> None:
        """Raise `IncompleteError` if a stop was requested."""
        if self._pending is not None:
            raise IncompleteError(self._pending.reason, hint=self._pending.hint)

    def pull(self, reason: str) -> None:
        """Stop intake in all deliveries; a second call cancels the requests in flight."""
        cancels, self._is_pulled_by_caller = self._is_pulled_by_caller, True
        self.pass_on(_stop(reason, cancels=cancels))

    def drain(self, reason: str) -> None:
        """Stop intake if nothing has stopped it yet; a later `pull` is still the first one."""
        if self._pending is None:
            self.pass_on(_stop(reason))

    def cancel(self, reason: str) -> None:
        """Stop intake, and cancel the requests in flight."""
        self.pass_on(_stop(reason, cancels=True))

    def pass_on(self, stop: Stop) -> None:
        """Pass a stop, such as that of another switch, to all listeners."""
        self._pending = stop
        with ExitStack() as listeners:  # Each is called, even if another one raises.
            for listener in reversed(self._listeners):
                listeners.callback(listener, stop)

    @contextmanager
    def connected(
        self, listener: Callable[[Stop], None], *, hears_earlier: bool = True
    ) -> Iterator[None]:
        """Call `listener` with each stop during the block, in addition to other listeners.

        With `hears_earlier`, a stop from before the block is passed to it immediately.
        """
        self._listeners.append(listener)
        try:
            if self._pending is not None and hears_earlier:
                listener(self._pending)
            yield
        finally:
            self._listeners.remove(listener)


def _stop(reason: str, *, cancels: bool = False) -> Stop:
    hint = "run the same command again to go on"
    return Stop(ExitStatus.INCOMPLETE, reason, hint, cancels=cancels)
