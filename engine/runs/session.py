"""One workspace, and the resources that all its runs in this process share.

A run holds the lock of its cohort, and the sending lock of the workspace while it sends. A run
that plans, or waits for changes to settle, does not prevent runs of other cohorts from sending, in
this process or another. All runs that send at once share one pacer, so they share one ceiling.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

from engine.clock import Clock, SystemClock
from engine.config.loading import Config
from engine.delivery.channel import Channel
from engine.delivery.sender import EMULATOR_HINT, resumed_pacer
from engine.delivery.stop import StopSwitch
from engine.delivery.transport import HttpTransport
from engine.ledger.locks import (
    Patience,
    cohort_at_once,
    cohort_lock,
    sending_lock,
)
from engine.ledger.neighbors import announced
from engine.ledger.sqlite.ledger import open_shared
from engine.model.cohort import CohortKey
from engine.pacing.pacer import Pacer
from engine.runs.interruptible import acquire_or_stop
from engine.runs.ports import Ledger

Note = Callable[[str], None]
"""Receives a remark for the user: one sentence, without a uid or a credential."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long a run waits for other processes, what stops the wait, and what announces it."""

    seconds: float
    switch: StopSwitch
    note: Note

    @property
    def patience(self) -> Patience:
        """The same values in the form that locks take."""
        return Patience(
            self.seconds,
            lambda: self.switch.is_pulled,
            lambda holder: self.note(f"waiting for {holder}"),
        )


class WorkspaceSession:
    """The ledger, pacer, connections and locks of a workspace; an async context manager.

    Any number of runs share it, one after another or at once, in one event loop. Each part is
    opened when it is first needed, so that entering the session raises nothing.
    """

    def __init__(
        self, config: Config, *, clock: Clock | None = None, switch: StopSwitch | None = None
    ) -> None:
        """`switch` stops all runs that have no switch of their own."""
        self.config = config
        self.clock = clock or SystemClock()
        self.switch = switch or StopSwitch()
        self.folder = config.place.folder
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._ledger: Ledger | None = None
        self._transport: HttpTransport | None = None
        self._cohorts: dict[CohortKey, asyncio.Lock] = {}
        self._sending_lock = sending_lock(self.folder)
        self._preparing = asyncio.Lock()
        self._pacer: Pacer | None = None
        self._earlier: Pacer | None = None
        """The last pacer before, which knows what the API has answered."""

    async def __aenter__(self) -> Self:
        """Return the session; nothing is opened yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything that was opened; raises nothing, to not hide how a run ended."""
        with suppress(Exception):
            await self._opened.aclose()

    async def ledger(self, waiting: Waiting) -> Ledger:
        """Return the ledger, opened and recovered; raises as `open_shared` does."""
        async with self._opening:
            if self._ledger is None:
                ledger = await open_shared(self.folder, self.clock, waiting.patience)
                self._opened.push_async_callback(ledger.close)
                # Before it is recovered: if that fails, it must not be opened a second time.
                self._ledger = ledger
                self._announce(waiting.note)
                await self._recover(ledger)
                await ledger.store_missing_totals()
            return self._ledger

    def _announce(self, note: Note) -> None:
        workspace = self.config.workspace
        others = self._opened.enter_context(
            announced(workspace.endpoint.identity, workspace.id, self.config.state_dir)
        )
        for other in others:
            note(
                f"warning: {other}: the two do not share the ceiling; give both the same state "
                "folder"
            )

    async def _recover(self, ledger: Ledger) -> None:
        """End the runs of processes that have died: their cohorts are not locked."""
        for key in await ledger.interrupted_cohorts():
            with cohort_at_once(self.folder, key) as is_free:
                if is_free:
                    await ledger.recover(key)

    @asynccontextmanager
    async def holding(self, key: CohortKey, waiting: Waiting) -> AsyncIterator[Ledger]:
        """Hold a cohort during the block, and end its interrupted runs first; yield the ledger.

        Runs of this session wait for each other. Raises `LockHeldError` if another process holds
        the cohort for longer than `waiting` allows, and what opening the ledger raises.
        """
        ledger = await self.ledger(waiting)
        key = CohortKey(key.partner, key.cohort_id)
        here = self._cohorts.setdefault(key, asyncio.Lock())
        await acquire_or_stop(here, waiting.switch)
        try:
            lock = cohort_lock(self.folder, key)
            await lock.acquire(waiting.patience)
            try:
                await ledger.recover(key)
                yield ledger
            finally:
                lock.release()
        finally:
            here.release()

    async def refuse_busy(self, waiting: Waiting) -> None:
        """Raise `LockHeldError` if another process sends now and the run must not wait."""
        if waiting.seconds == 0:
            await self.hold_sending(waiting)
            self.release_sending()

    async def hold_sending(self, waiting: Waiting) -> None:
        """Wait for the right to send; all runs of this session that send at once share it.

        Raises `LockHeldError` if another process holds it for longer than `waiting` allows.
        """
        await self._sending_lock.acquire(waiting.patience)

    def release_sending(self) -> None:
        """Release the right that `hold_sending` acquired."""
        self._sending_lock.release()
        if not self._sending_lock.is_held:
            self._earlier = self._pacer or self._earlier
            self._pacer = None  # Another process may send from now on.

    async def channel(self, ledger: Ledger) -> Channel:
        """Return the channel that deliveries share; the caller holds the right to send.

        Raises `ConfigError` for a malformed proxy setting.
        """
        config = self.config
        return Channel(
            ledger.sends,
            self.clock,
            await self._shared_pacer(ledger),
            await self._shared_transport(),
            config.delivery,
            config.retry,
            EMULATOR_HINT if config.workspace.endpoint.is_loopback else None,
        )

    async def _shared_pacer(self, ledger: Ledger) -> Pacer:
        """Return the pacer, which counts the requests that other processes have sent until now."""
        async with self._preparing:
            if self._pacer is None:
                await ledger.settle_all()
                await self._recover(ledger)
                self._pacer = await resumed_pacer(
                    self.config.pacing, ledger.sends, self.clock, self._earlier
                )
            return self._pacer

    async def _shared_transport(self) -> HttpTransport:
        if self._transport is None:
            config = self.config
            transport = HttpTransport(config.workspace, config.delivery, self.clock)
            self._transport = await self._opened.enter_async_context(transport)
        return self._transport
