"""A thread that reads and packs the export while the event loop sends."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from engine.payload.batch import Batch


class ReadAhead:
    """Prepares up to `depth` batches; belongs to the event loop in which it is created.

    The thread packs the next batches together, after the last one is taken. At the API's ceiling, a
    thread that wakes up for each batch has cold caches and takes twice the CPU time.

    `wake` is called in the loop when a batch is ready or reading ends, but only if the last `take`
    returned None. The thread is a daemon, so that a pipe that never ends does not prevent the
    process from stopping.
    """

    def __init__(self, batches: Iterator[Batch], wake: Callable[[], None], depth: int = 8) -> None:
        self._batches = batches
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Batch] = deque()
        self._room = threading.Semaphore(depth)
        self._taken = 0
        self._is_missed = True
        self._stopped = False
        self.ended = False
        """Whether the end of the export was reached, or reading has failed."""
        self.failure: BaseException | None = None
        """The exception that ended reading, or None."""
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def take(self) -> Batch | None:
        """Return the next batch in export order, or None if none is ready."""
        self._is_missed = True  # Set before the check, so that the thread reports later batches.
        if not self._ready:
            return None
        self._is_missed = False
        batch = self._ready.popleft()
        self._taken += 1
        if not self._ready:
            self._room.release(self._taken)
            self._taken = 0
        return batch

    @property
    def is_dry(self) -> bool:
        """Whether nothing is left to take, now or later."""
        return self.ended and not self._ready

    def stop(self) -> None:
        """Stop reading."""
        self._stopped = True
        self._room.release()

    def _read(self) -> None:
        failure: BaseException | None = None
        try:
            while True:
                self._room.acquire()
                if self._stopped:
                    return
                batch = next(self._batches, None)
                if batch is None:
                    break
                self._ready.append(batch)
                if self._is_missed:
                    self._is_missed = False
                    self._loop.call_soon_threadsafe(self._wake)
        except BaseException as error:  # noqa: BLE001 - passed to the loop
            failure = error
        # A stop may have closed the loop while the thread was reading the last record.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, failure)

    def _end(self, failure: BaseException | None) -> None:
        self.ended = True
        self.failure = failure
        self._wake()
