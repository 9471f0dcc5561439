"""Ends a query from another thread than the one that reads it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.errors import IncompleteError


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
            if self._cancel is not None:
                with suppress(Exception):  # The query may just have ended.
                    self._cancel()

    @contextmanager
    def passed_to(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Call `cancel`, the driver's function, at each request that comes before the block ends.

        Raises `IncompleteError` if one has come already.
        """
        with self._lock:
            if self._is_requested:
                raise IncompleteError("the query was ended before it began")
            self._cancel = cancel
        try:
            yield
        finally:
            with self._lock:  # A driver may not be asked to cancel what is closed.
                self._cancel = None
