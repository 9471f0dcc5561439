"""One process's way to the API: its pace and its connections, for as many deliveries as a run has.

`push` makes one delivery of it, `mirror` one for each part of its plan.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self, TypeVar, cast

from engine.clock import Clock
from engine.delivery.events import Observer, Waiting
from engine.delivery.pipeline import Delivery
from engine.delivery.ports import SendingConfig
from engine.delivery.read_ahead import ReadAhead
from engine.delivery.stop import Stop
from engine.delivery.transport import HttpTransport
from engine.errors import ExitStatus, IncompleteError
from engine.ledger.records import OpenBatch, RunState
from engine.ledger.sqlite.send_log import SendLog
from engine.pacing.pacer import Pacer
from engine.pacing.settings import PacingSettings
from engine.payload.batch import Batch
from engine.payload.limit import Limit
from engine.storage.duckdb_session import Interruption

T = TypeVar("T")

EMULATOR_HINT = (
    "nothing starts an emulator by itself: `cohortsync emulator` does, and `cohortsync demo` "
    "shows a whole run; to send to the real API see config.toml"
)


class StopSwitch:
    """Passes a stop on to the work under way, if there is any."""

    def __init__(self) -> None:
        self._stop: Callable[[Stop], None] | None = None
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
        """Stop intake; pulled again, cancel what is under way."""
        self._pending = Stop(ExitStatus.INCOMPLETE, reason, "run the same command again to go on")
        if self._stop is not None:
            self._stop(self._pending)

    @contextmanager
    def connected(
        self, stop: Callable[[Stop], None], *, respects_earlier: bool = True
    ) -> Iterator[None]:
        """Say what is to be stopped during the block.

        A stop that came before is passed on now if `respects_earlier`.
        """
        self._stop = stop
        if self._pending is not None and respects_earlier:
            stop(self._pending)
        try:
            yield
        finally:
            self._stop = None


async def read_or_stop(read: Callable[[], T], switch: StopSwitch) -> T:
    """Run `read` in a thread; raise `IncompleteError` as soon as a stop comes.

    The thread is left behind then: a pipe that never ends must not keep a process alive.
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
        except BaseException as error:  # noqa: BLE001 - handed to the loop, whatever it is
            failure = error
        # A stop may have closed the loop meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end, value, failure)

    with switch.connected(lambda stop: end(None, IncompleteError(stop.reason, hint=stop.hint))):
        threading.Thread(target=work, name="read", daemon=True).start()
        return await ended


async def compute_or_stop(
    work: Callable[[Interruption], T], switch: StopSwitch, *, respects_earlier: bool = True
) -> T:
    """Run `work` in a thread; a stop interrupts the query in which it is, if it is in one.

    The steps that end a run are still done after a stop: they ignore one that came earlier.
    """
    interruption = Interruption()

    def stop(stop: Stop) -> None:
        interruption.trip(IncompleteError(stop.reason, hint=stop.hint))

    with switch.connected(stop, respects_earlier=respects_earlier):
        return await asyncio.to_thread(work, interruption)


async def wait_or_stop(seconds: float, switch: StopSwitch, observe: Observer) -> Stop | None:
    """Wait until earlier changes have settled; return the stop that came meanwhile, if one did."""
    if seconds > 0:
        observe(Waiting(seconds))
    stopped: asyncio.Queue[Stop] = asyncio.Queue()
    with switch.connected(stopped.put_nowait), suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await stopped.get()
    return None


async def resumed_pacer(settings: PacingSettings, sends: SendLog, clock: Clock) -> Pacer:
    """Return a pacer that goes on inside the window that earlier processes have left."""
    sent_ago = await sends.recent_sends(settings.requests)
    held_seconds = await sends.seconds_held()
    now = clock.now()
    return Pacer(settings, clock, [now - ago for ago in sent_ago], held_seconds)


class Sender:
    """Delivers batches, one delivery after the other, inside one window law."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts, each used as it is
        self,
        config: SendingConfig,
        sends: SendLog,
        clock: Clock,
        pacer: Pacer,
        transport: HttpTransport,
        observe: Observer,
        switch: StopSwitch,
    ) -> None:
        self._config = config
        self._sends = sends
        self._clock = clock
        self.pacer = pacer
        self._transport = transport
        self._observe = observe
        self._switch = switch

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: SendingConfig,
        sends: SendLog,
        clock: Clock,
        observe: Observer,
        switch: StopSwitch,
    ) -> AsyncIterator[Self]:
        """Go on inside the window that earlier processes have left, over one pool."""
        pacer = await resumed_pacer(config.pacing, sends, clock)
        async with HttpTransport(config.workspace, config.delivery, clock) as transport:
            yield cls(config, sends, clock, pacer, transport, observe, switch)

    async def deliver(
        self,
        state: RunState,
        limit: Limit,
        batches: Iterator[Batch],
        open_batches: Sequence[OpenBatch] = (),
    ) -> Stop | None:
        """Deliver batches cut under `limit`, and what is open of them; return what stopped it."""
        is_loopback = self._config.workspace.endpoint.is_loopback
        delivery = Delivery(
            state,
            open_batches,
            lambda wake: ReadAhead(batches, wake),
            limit,
            transport=self._transport,
            pacer=self.pacer,
            ledger=self._sends,
            clock=self._clock,
            settings=self._config.delivery,
            retry=self._config.retry,
            jitter=random.random,
            observe=self._observe,
            nobody_listens_hint=EMULATOR_HINT if is_loopback else None,
        )
        with self._switch.connected(delivery.stop):
            return await delivery.run()
