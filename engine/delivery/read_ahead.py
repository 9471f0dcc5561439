"""A thread that reads and packs the export while the event loop sends."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from engine.payload.batch import Batch


class ReadAhead:
    """Makes up to `depth` batches ready; belongs to the event loop it is made in.

    The next ones are packed together, once the last is taken: at the API's ceiling a thread that
    wakes for each finds cold caches, and takes twice the CPU time.

    `wake` is called in the loop when there is something to look at and the last look found nothing:
    a loop that has enough to do is left alone. The thread is a daemon: a pipe that never ends must
    not keep a process alive that is to stop.
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
        """Whether the export has been read to its end, or reading has failed."""
        self.failure: BaseException | None = None
        """What reading failed with."""
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self) -> Batch | None:
        """Return the next batch in export order, or None if none is ready."""
        self._is_missed = True  # Before looking: the thread reports what comes after it.
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
        """Read no further."""
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
        except BaseException as error:  # noqa: BLE001 - handed to the loop, whatever it is
            failure = error
        # A stop may have closed the loop while the last record was still being read.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, failure)

    def _end(self, failure: BaseException | None) -> None:
        self.ended = True
        self.failure = failure
        self._wake()
