"""Ends a query from another thread than the one that reads it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Cancellation:
    """Passes a request to end to the query that is running; usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self._is_requested = False

    @property
    def is_requested(self) -> bool:
        """Whether the query should end."""
        return self._is_requested

    def request(self) -> None:
        """Let the query end soon; one that has not begun yet hears the next request."""
        with self._lock:
            self._is_requested = True
            self._call()

    @contextmanager
    def passed_to(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Call `cancel`, the driver's function, at a request that comes before the block ends."""
        with self._lock:
            self._cancel = cancel
            if self._is_requested:
                self._call()
        try:
            yield
        finally:
            with self._lock:  # A driver may not be asked to cancel what is closed.
                self._cancel = None

    def _call(self) -> None:
        if self._cancel is not None:
            with suppress(Exception):  # The query may just have ended.
                self._cancel()
