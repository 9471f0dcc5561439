"""One workspace, and the resources that all its runs in this process share.

A run holds the lock of its cohort, and the sending lock of the workspace while it sends. A run
that plans, or waits for changes to settle, does not prevent runs of other cohorts from sending, in
this process or another. All runs that send at once share one pacer, so they share one ceiling.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Self

from engine.clock import Clock, SystemClock
from engine.config.loading import Config
from engine.delivery.channel import Channel
from engine.delivery.sender import EMULATOR_HINT
from engine.delivery.stop import StopSwitch
from engine.delivery.transport import HttpTransport
from engine.errors import UsageError
from engine.ledger.locks import cohort_lock
from engine.model.cohort import CohortKey
from engine.pacing.pacer import Pacer
from engine.runs.arguments import no_note
from engine.runs.interruptible import acquire_or_stop
from engine.runs.ports import Ledger
from engine.runs.shared_ledger import LockWait
from engine.runs.shared_workspace import SharedWorkspace
from engine.snapshot.ports import SnapshotFence


class WorkspaceSession:
    """The ledger, pacer, connections and locks of a workspace; an async context manager.

    Any number of runs share it, one after another or at once, in one event loop. Each part is
    opened when it is first needed, so that entering the session raises nothing. Leaving it stops
    the runs that are under way, and waits until they have ended.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        switch: StopSwitch | None = None,
        beside: Self | None = None,
    ) -> None:
        """`switch` stops all runs that have no switch of their own.

        `beside` is a session of the same folder, which is left after this one.
        """
        self.config = config
        self._shared: SharedWorkspace = (
            SharedWorkspace(config, clock or SystemClock()) if beside is None else beside._shared  # noqa: SLF001 - of the same class
        )
        self.clock = self._shared.clock
        self.switch = switch or StopSwitch()
        self.folder = self._shared.folder
        self.is_closed = False
        """Whether the session was left: no run begins any more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runs: list[tuple[CohortKey, StopSwitch]] = []
        """The runs that hold a cohort, or wait for it."""
        self._run_ended = asyncio.Event()
        self._opened = AsyncExitStack()
        if beside is None:
            self._opened.push_async_callback(self._shared.close)
        self._transport: HttpTransport | None = None

    async def __aenter__(self) -> Self:
        """Return the session; nothing is opened yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all runs, wait until they have ended, and close everything that was opened.

        A cancellation cancels the requests in flight, and is raised again after that. Nothing else
        is raised, to not hide how a run ended.
        """
        self.is_closed = True
        for _key, switch in tuple(self._runs):
            switch.drain(_CLOSED)
        cancellation = None
        while self._runs:
            self._run_ended.clear()
            try:
                await self._run_ended.wait()
            except asyncio.CancelledError as error:
                cancellation = error
                for _key, switch in tuple(self._runs):
                    switch.cancel(_CLOSED)
        with suppress(Exception):
            await self._opened.aclose()
        if cancellation is not None:
            raise cancellation

    @asynccontextmanager
    async def holding(self, key: CohortKey, waiting: LockWait) -> AsyncIterator[Ledger]:
        """Hold a cohort during the block, and end its interrupted runs first; yield the ledger.

        Runs of this session wait for each other. `waiting.switch` is the run's own: it is pulled if
        the session is left. Raises `LockHeldError` if another process holds the cohort for longer
        than `waiting` allows, `IncompleteError` if a stop ends a wait, `UsageError` if the session
        was left or is used in another event loop, and what opening the ledger and joining other
        hosts raise.
        """
        key = CohortKey(key.partner, key.cohort_id)
        with self._counted(key, waiting.switch):
            here = self._shared.lock_here(key)
            await acquire_or_stop(here, waiting.switch)
            try:
                async with self._shared.ledger.used(waiting) as ledger:
                    await self._shared.prepare(ledger, waiting.switch, waiting.note)
                    lock = cohort_lock(self.folder, key)
                    await lock.acquire(waiting.patience)
                    try:
                        if ledger.gone is not None:
                            raise ledger.gone
                        await ledger.recover(key)
                        async with self._shared.leased(key, waiting):
                            yield ledger
                    finally:
                        lock.release()
            finally:
                here.release()

    def fence(self, key: CohortKey) -> SnapshotFence:
        """Return what guards the snapshot of a cohort, which is held, against other hosts."""
        return self._shared.fence(CohortKey(key.partner, key.cohort_id))

    @asynccontextmanager
    async def using_ledger(self, waiting: LockWait) -> AsyncIterator[Ledger]:
        """Yield the ledger, which stays open during the block, without a cohort's lock.

        Raises what opening the ledger raises.
        """
        async with self._shared.ledger.used(waiting) as ledger:
            yield ledger

    def renew(self, config: Config) -> None:
        """Use another API key for the runs that begin from now on; the rest must be the same."""
        self.config = config
        self._transport = None  # The one before is closed with the session: runs may use it.

    @property
    def cohorts(self) -> frozenset[CohortKey]:
        """The cohorts that runs of this process work on or wait for; none is a shadow's."""
        return self._shared.busy

    @contextmanager
    def _counted(self, key: CohortKey, switch: StopSwitch) -> Iterator[None]:
        """Count a run as under way during the block; `switch` stops it."""
        loop = asyncio.get_running_loop()
        if self.is_closed:
            raise closed_error()
        if self._loop not in {None, loop}:
            raise UsageError(
                "this engine is in use in another event loop",
                hint="open an engine in each event loop",
            )
        self._loop = loop
        run = (key, switch)
        self._runs.append(run)
        try:
            with self._shared.working_on(key):
                yield
        finally:
            self._runs.remove(run)
            self._run_ended.set()

    async def refuse_busy(self, waiting: LockWait) -> None:
        """Raise `LockHeldError` if another process sends now and the run must not wait."""
        if waiting.seconds == 0:
            await self.hold_sending(waiting)
            self.release_sending()

    async def hold_sending(self, waiting: LockWait) -> None:
        """Wait for the right to send; all runs of this session that send at once share it.

        Raises `LockHeldError` if another process holds it for longer than `waiting` allows.
        """
        await self._shared.sending_lock.acquire(waiting.patience)

    def release_sending(self) -> None:
        """Release the right that `hold_sending` acquired."""
        self._shared.sending_lock.release()

    @asynccontextmanager
    async def probing(self) -> AsyncIterator[Pacer]:
        """Hold the right to send during the block, for one request that carries no uid.

        Yields the pacer. Raises `LockHeldError` if another process sends, and what opening the
        ledger raises.
        """
        waiting = LockWait(0.0, StopSwitch(), no_note)
        # One at a time: the ledger does not distinguish such requests.
        async with (
            self._shared.probes,
            self._shared.ledger.used(waiting) as ledger,
            ledger.naming_damage(),
        ):
            await self.hold_sending(waiting)
            try:
                pacer = await self._shared.pacer(ledger)
                async with ledger.sends.probing():
                    yield pacer
            finally:
                self.release_sending()

    async def channel(self, ledger: Ledger) -> Channel:
        """Return the channel that deliveries share; the caller holds the right to send.

        Raises `ConfigError` for a malformed proxy setting.
        """
        config = self.config
        return Channel(
            ledger.sends,
            self.clock,
            await self._shared.pacer(ledger),
            await self._shared_transport(),
            config.delivery,
            config.retry,
            EMULATOR_HINT if config.workspace.endpoint.is_loopback else None,
            self._shared.ranks,
        )

    async def _shared_transport(self) -> HttpTransport:
        if self._transport is None:
            config = self.config
            transport = HttpTransport(config.workspace, config.delivery, self.clock)
            self._transport = await self._opened.enter_async_context(transport)
        return self._transport


_CLOSED = "the engine was closed"


def closed_error() -> UsageError:
    """Return the error for a run that begins after its session was left."""
    return UsageError(_CLOSED, hint="open it again: `async with Engine.open(...)`")
