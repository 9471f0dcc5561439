"""What all sessions of one folder share in this process: its ledger, its locks and its ceiling."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from engine.clock import Clock
from engine.config.loading import Config
from engine.coordination.coordination import Coordination, key_prefix
from engine.coordination.leases import Lease, Owner
from engine.delivery.sender import resumed_pacer
from engine.delivery.stop import Stop, StopSwitch
from engine.ledger.locks import cohort_at_once, sending_lock
from engine.ledger.neighbors import announced
from engine.ledger.state_folder import describe_process, folder_identity, ledger_id, this_process
from engine.model.cohort import CohortKey
from engine.pacing.pacer import Pacer
from engine.pacing.ranks import Ranks
from engine.runs.arguments import Note, no_note
from engine.runs.ports import Ledger
from engine.runs.shared_ledger import LockWait, SharedLedger
from engine.snapshot.ports import SnapshotFence, SoleHost


class SharedWorkspace:
    """A workspace of the API, which may have several names in a configuration.

    Names with the same endpoint and id differ in the partner. They have one folder and one ceiling,
    so the sessions of these names share the parts here. Whoever makes it closes it after them.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open nothing yet; `config` is that of any of its names."""
        self.folder = config.place.folder
        self.clock = clock
        self._config = config
        self.sending_lock = sending_lock(self.folder)
        self.ledger = SharedLedger(
            *(self.folder, clock, self.sending_lock, config.pacing.most), self._recover
        )
        self.ranks = Ranks()
        self._busy = Counter[CohortKey]()
        self._locks: dict[CohortKey, asyncio.Lock] = {}
        self._counted_in: Ledger | None = None
        """The ledger whose missing totals are stored, or are being counted."""
        self.probes = asyncio.Lock()
        self._pacing = asyncio.Lock()
        self._pacer: tuple[int, Pacer] | None = None
        """The last pacer, and the number of the hold on the sending lock that it belongs to."""
        self._opened = AsyncExitStack()
        self._opened.push_async_callback(self.ledger.close)
        self._is_announced = False
        self._coordination: Coordination | None = None
        self._leases: dict[CohortKey, Lease] = {}

    async def close(self) -> None:
        """Close what was opened; no session uses it any more."""
        await self._opened.aclose()

    @property
    def busy(self) -> frozenset[CohortKey]:
        """The cohorts that runs of this process work on or wait for; none is a shadow's."""
        return frozenset(self._busy)

    @contextmanager
    def working_on(self, key: CohortKey) -> Iterator[None]:
        """Count a cohort as busy during the block."""
        self._busy[key] += 1
        try:
            yield
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    def lock_here(self, key: CohortKey) -> asyncio.Lock:
        """Return the lock that runs of this process hold a cohort by."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def prepare(self, ledger: Ledger, switch: StopSwitch, note: Note) -> None:
        """Announce this process, and count what no run has counted yet; a stop leaves the rest.

        Raises as `Coordination.open`.
        """
        self._announce(note)
        await self._coordinate(note)
        if self._counted_in is ledger:
            return
        self._counted_in = ledger  # Other runs do not wait for the count.
        is_complete = False
        try:
            await ledger.store_missing_totals(lambda: switch.is_pulled)
            is_complete = not switch.is_pulled
        finally:
            if not is_complete:
                self._counted_in = None

    def _announce(self, note: Note) -> None:
        """Announce this process once: the announcement is not in the state folder."""
        if self._is_announced:
            return
        self._is_announced = True
        if self._config.shared is not None:
            return
        workspace = self._config.workspace
        others = self._opened.enter_context(
            announced(workspace.endpoint.identity, workspace.id, self._config.state_dir)
        )
        for other in others:
            note(
                f"warning: {other}: the two do not share the ceiling; give both the same state "
                "folder"
            )

    async def _coordinate(self, note: Note) -> Coordination | None:
        """Join the processes of other hosts, if they share a ceiling."""
        config = self._config
        if config.shared is None:
            return None
        if self._coordination is None:
            workspace = config.workspace
            owner = Owner(
                folder_identity(self.folder, self.clock.stamp().boot_id),
                ledger_id(self.folder),
                describe_process(this_process()),
            )
            self._coordination = Coordination(
                config.shared,
                key_prefix(workspace.endpoint.identity, workspace.id),
                config.pacing,
                owner,
                self.clock,
                # Connecting may take as long again.
                timeout_seconds=2 * config.delivery.timeout_seconds,
                give_up_seconds=config.retry.give_up_after_seconds,
            )
            self._opened.push_async_callback(self._coordination.close)
        await self._coordination.open(note)
        return self._coordination

    @asynccontextmanager
    async def leased(self, key: CohortKey, waiting: LockWait) -> AsyncIterator[None]:
        """Hold a cohort's lease during the block, if hosts share a ceiling.

        Raises as `Coordination.leased`; if the lease is lost, the run is stopped.
        """
        coordination = self._coordination
        if coordination is None:
            yield
            return
        patience = waiting.patience
        held = coordination.leased(
            *(key, patience.seconds, patience.stop_reason, patience.waiting),
            lambda error: waiting.switch.pass_on(Stop.of(error)),
        )
        async with held as lease:
            self._leases[key] = lease
            try:
                yield
            finally:
                del self._leases[key]

    def fence(self, key: CohortKey) -> SnapshotFence:
        """Return what guards a cohort's snapshot against other hosts."""
        return self._leases.get(key) or SoleHost()

    async def _recover(self, ledger: Ledger) -> None:
        """End the runs of processes that have died: their cohorts are not locked.

        A run of this process that holds such a cohort, or waits for it, recovers it itself.
        """
        for key in await ledger.interrupted_cohorts():
            if key in self._busy:
                continue
            async with self.lock_here(key):  # Else a run that begins now would find it locked.
                with cohort_at_once(self.folder, key) as is_free:
                    if is_free:
                        await ledger.recover(key)

    async def pacer(self, ledger: Ledger) -> Pacer:
        """Return the pacer, which counts the requests that other processes have sent until now.

        The caller holds the sending lock.
        """
        async with self._pacing:
            # Whoever released the lock last: since then another process may have sent.
            hold = self.sending_lock.times_taken
            earlier_hold, earlier = self._pacer or (None, None)
            if earlier is not None and earlier_hold == hold:
                return earlier
            await ledger.settle_all()
            await self._recover(ledger)
            coordination = await self._coordinate(no_note)
            pacer = await resumed_pacer(
                *(self._config.pacing, self.ledger.sends, self.clock, earlier),
                None if coordination is None else coordination.ceiling,
            )
            self._pacer = (hold, pacer)
            return pacer
