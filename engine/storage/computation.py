"""Long work in a thread: its limits, and the stop that ends it."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

from engine.cancellation import run_in_thread
from engine.errors import CohortSyncError, IncompleteError
from engine.storage.capacity import affordable
from engine.storage.settings import PlanningSettings

T = TypeVar("T")


class Interruption:
    """Stops a computation in another thread, which asks for it between its parts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: CohortSyncError | None = None
        self._cancels: list[Callable[[], object]] = []

    def trip(self, error: CohortSyncError) -> None:
        """End the computation; it and all later ones raise the `error` of the first call."""
        with self._lock:
            self._error = self._error or error
            for cancel in self._cancels:
                cancel()

    @contextmanager
    def calling(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Call `cancel`, which must not raise, at a stop that comes before the block ends."""
        with self._lock:
            self._cancels.append(cancel)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._cancels.remove(cancel)

    def check(self) -> None:
        """Raise the error of a stop, if there was one."""
        if self._error is not None:
            raise self._error

    def until_tripped(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`; raise the error of a stop before the next one."""
        for item in items:
            self.check()
            yield item


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """The limits of a computation, and the stop that may end it."""

    settings: PlanningSettings
    interruption: Interruption = field(default_factory=Interruption)

    def affordable(self) -> Self:
        """Return the options reduced to a limit on address space; see `capacity.affordable`."""
        return replace(self, settings=affordable(self.settings))


class Compute(Protocol):
    """Runs long work in a thread, where a stop can interrupt it."""

    async def __call__(self, work: Callable[[Interruption], T]) -> T:
        """Return the result of `work`."""


async def compute_in_thread(
    work: Callable[[Interruption], T], interruption: Interruption | None = None
) -> T:
    """Run `work` in a thread; a cancellation trips `interruption`, and the thread's end is awaited.

    The caller may trip it, too.
    """
    tripped = interruption or Interruption()
    return await run_in_thread(
        lambda: work(tripped), lambda: tripped.trip(IncompleteError("cancelled"))
    )


@contextmanager
def within_memory(settings: PlanningSettings) -> Iterator[None]:
    """Raise `IncompleteError` if the block does not get the memory that it needs."""
    try:
        yield
    except MemoryError as error:
        raise IncompleteError(
            f"the plan does not fit into memory (`plan.memory_megabytes` is "
            f"{settings.memory_megabytes})",
            hint="raise the limits on memory (`ulimit -v`, that of the container), or lower "
            "`plan.memory_megabytes` and `plan.threads`",
        ) from error


@contextmanager
def in_order(tasks: Generator[Callable[[], T], None, None], threads: int) -> Iterator[Iterator[T]]:
    """Yield the results of tasks, in their order, computed by so many threads.

    However the block ends, the threads have ended and `tasks` is closed after it: what the tasks
    read may be closed then.
    """
    with closing(tasks):
        if threads == 1:
            yield (task() for task in tasks)
            return
        with ThreadPoolExecutor(threads, "compute") as pool:
            running: deque[Future[T]] = deque()
            try:
                yield _results(tasks, pool, threads, running)
            finally:
                for each in running:
                    each.cancel()


def _results(
    tasks: Iterable[Callable[[], T]],
    pool: ThreadPoolExecutor,
    threads: int,
    running: deque[Future[T]],
) -> Iterator[T]:
    """Yield the results of tasks, of which one more than `threads` are in `running` at most."""
    for task in tasks:
        running.append(pool.submit(task))
        if len(running) > threads:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()
