"""Work that a stop ends: reading, computing and waiting."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar, cast

from engine.cancellation import run_in_thread
from engine.delivery.stop import Stop, StopSwitch
from engine.errors import IncompleteError
from engine.storage.computation import Interruption, compute_in_thread

T = TypeVar("T")


class WritePermission:
    """The permission of a thread that reads an export to write; its caller can withdraw it.

    The thread does not hold it while it waits for the next block, which may never come.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_withdrawn = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the permission during the block; raises `IncompleteError` if it was withdrawn."""
        with self._lock:
            self._check()
            yield

    def released_between(self, blocks: Iterable[T]) -> Iterator[T]:
        """Yield `blocks`, and release the permission while it waits for the next one.

        Raises `IncompleteError` if it was withdrawn meanwhile.
        """
        waiting = iter(blocks)
        while True:
            self._lock.release()
            try:
                block = next(waiting, None)
            finally:
                self._lock.acquire()
            self._check()
            if block is None:
                return
            yield block

    def withdraw(self) -> None:
        """Wait until the thread does not write, and do not let it write again."""
        with self._lock:
            self._is_withdrawn = True

    def _check(self) -> None:
        if self._is_withdrawn:
            raise IncompleteError("nobody waits for this read any more")


async def read_or_stop(
    read: Callable[[], T], switch: StopSwitch, permission: WritePermission | None = None
) -> T:
    """Run `read` in a thread; raise `IncompleteError` as soon as a stop comes.

    The thread then continues in the background: an endless pipe must not keep a process alive. If
    it writes, it must hold `permission`, which is withdrawn before this returns or raises.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def end(value: T | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(cast("T", value))

    def work() -> None:
        value, failure = None, None
        try:
            value = read()
        except BaseException as error:  # noqa: BLE001 - any error is passed to the loop
            failure = error
        # A stop may have closed the loop meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end, value, failure)

    try:
        with switch.connected(lambda stop: end(None, IncompleteError(stop.reason, hint=stop.hint))):
            threading.Thread(target=work, name="read", daemon=True).start()
            return await ended
    finally:
        if permission is not None:
            await run_in_thread(permission.withdraw)


async def compute_or_stop(
    work: Callable[[Interruption], T], switch: StopSwitch, *, hears_earlier: bool = True
) -> T:
    """Run `work` in a thread; a stop interrupts it between its parts.

    So does a cancellation, which is raised when the thread has ended. An earlier stop must not
    interrupt the fold at the end of a run: it also runs after a stop.
    """
    interruption = Interruption()

    def trip(stop: Stop) -> None:
        interruption.trip(IncompleteError(stop.reason, hint=stop.hint))

    with switch.connected(trip, hears_earlier=hears_earlier):
        return await compute_in_thread(work, interruption)


async def wait_or_stop(seconds: float, switch: StopSwitch) -> Stop | None:
    """Wait `seconds`; return the stop that came meanwhile, if any."""
    stopped: asyncio.Queue[Stop] = asyncio.Queue()
    with switch.connected(stopped.put_nowait), suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await stopped.get()
    return None


async def acquire_or_stop(lock: asyncio.Lock, switch: StopSwitch) -> None:
    """Acquire a lock; raise `IncompleteError` if a stop ends the wait for it.

    A lock that is free, and that nobody is about to get, is acquired even after a stop.
    """
    loop = asyncio.get_running_loop()
    taking = asyncio.ensure_future(lock.acquire())

    def give_up(_: Stop) -> None:
        loop.call_soon(taking.cancel)  # By then the task has the lock, or waits for it.

    with switch.connected(give_up):
        try:
            await taking
        except asyncio.CancelledError:
            if not taking.cancelled():
                lock.release()  # The lock was acquired at the time of the cancellation.
            elif not _is_cancelled():
                switch.refuse_if_pulled()
            raise


def _is_cancelled() -> bool:
    """Return whether the current task is being cancelled, by more than its own work."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
