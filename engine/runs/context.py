"""The context of one run: its session, its cohort and its observers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from engine.clock import Clock
from engine.config.loading import Config
from engine.delivery.events import Event, EventSource, Observer, RunEvent, RunObserver
from engine.delivery.stop import StopSwitch
from engine.ledger.records import ExecutionSettings, RunState
from engine.model.cohort import Cohort, CohortKey
from engine.report.accounts import Ceiling
from engine.report.run_results import Opening
from engine.runs.arguments import Note, Observers, PlanObservers, no_note, note_and_switch
from engine.runs.engines import engine_of
from engine.runs.interruptible import compute_or_stop
from engine.runs.ports import Ledger, PlanEngine
from engine.runs.precedence import FIRST, Precedence
from engine.runs.session import WorkspaceSession
from engine.runs.shared_ledger import LockWait
from engine.snapshot.store import SnapshotStore
from engine.storage.computation import Interruption

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunObservers:
    """The observers of a run. Each is called in the event loop, and must not block."""

    observe: RunObserver = lambda _: None
    """Receives each event, and the run that it belongs to; see `engine.delivery.events`."""
    opened: Callable[[Opening], None] = lambda _: None
    """Receives the target, the cohort and the name of the run, before anything is sent."""
    planned: Callable[[dict[str, Any]], None] = lambda _: None
    """Receives a mirror's plan in the form of `--json`, before anything is sent."""
    note: Note = no_note
    """Receives remarks for the user."""
    switch: StopSwitch | None = None
    """Stops the run; by default the session's."""


NOBODY = RunObservers()


def run_observers(observers: Observers | PlanObservers) -> RunObservers:
    """Return the observers that a caller gave, and for those it did not give, ones that do nothing.

    Raises `TypeError` for an argument that is not an observer.
    """
    note_and_switch(observers)
    return RunObservers(**observers)


@dataclass(frozen=True, slots=True)
class RunContext:
    """The session, cohort and observers of one run."""

    session: WorkspaceSession
    key: CohortKey
    observers: RunObservers = NOBODY
    precedence: Precedence = FIRST
    switch: StopSwitch = field(default_factory=StopSwitch, init=False)
    """Stops this run alone. It passes on the stops of the caller's switch."""

    @property
    def config(self) -> Config:
        """The session's configuration."""
        return self.session.config

    @property
    def clock(self) -> Clock:
        """The session's clock."""
        return self.session.clock

    @property
    def note(self) -> Note:
        """Receives remarks for the user."""
        return self.observers.note

    @property
    def engine(self) -> PlanEngine:
        """What compares the cohort's exports, and keeps its snapshots."""
        return engine_of(self.config, self.session.folder, self.key)

    @property
    def limits(self) -> ExecutionSettings:
        """The limits that apply to the run."""
        pacing = self.config.pacing
        return ExecutionSettings(
            pacing.requests,
            pacing.per_seconds,
            self.config.packing.payload_bytes,
            pacing.hours_record(),
        )

    def waiting(self, seconds: float) -> LockWait:
        """Return how the run waits `seconds` for other processes."""
        return LockWait(seconds, self.switch, self.note)

    @asynccontextmanager
    async def open(
        self, wait_seconds: float, *, sends: bool = False, goes_by_snapshot: bool = True
    ) -> AsyncIterator[tuple[Ledger, SnapshotStore]]:
        """Hold the cohort during the block; raises as `WorkspaceSession.holding` does.

        Raises `LockHeldError` if another process sends, for a run that `sends` and must not wait,
        and `LedgerError` if another host has moved the snapshot, for one that `goes_by_snapshot`.
        """
        session, config = self.session, self.config
        waiting = self.waiting(wait_seconds)
        async with AsyncExitStack() as held:
            caller = self.observers.switch or session.switch
            held.enter_context(caller.connected(self.switch.pass_on))
            with self.precedence.waiting("another process"):
                ledger = await held.enter_async_context(session.holding(self.key, waiting))
            await held.enter_async_context(ledger.naming_damage())
            if sends:
                await session.refuse_busy(waiting)
            store = SnapshotStore(
                *(session.folder, ledger.snapshots, self.key, config.mirror, config.planning),
                *(self.clock, self.engine, self._compute),
                session.fence(self.key),
            )
            if goes_by_snapshot and not self.key.is_shadow:
                await store.refuse_stale()
            try:
                yield ledger, store
            finally:
                # A later run removes what is left. A failure must not hide how this run ended.
                with suppress(Exception):
                    store.close()

    async def _compute(self, work: Callable[[Interruption], T]) -> T:
        async with self.precedence.computing():
            return await compute_or_stop(work, self.switch, hears_earlier=False)

    def observer(self, state: RunState) -> Observer:
        """Return the observer that receives the events of a recorded run."""
        source = EventSource(self.config.workspace.id, self.key.cohort_id, state.run.name)
        observe = self.observers.observe

        def pass_on(event: Event) -> None:
            observe(RunEvent(source, event))

        return pass_on


def opening_of(config: Config, cohort: Cohort, action: str) -> Opening:
    """Return the opening of a run that is not recorded, such as a dry run."""
    workspace = config.workspace
    return Opening(
        workspace.endpoint.label,
        workspace.id,
        workspace.partner,
        cohort,
        action,
        Ceiling.of(config.pacing),
        run=None,
        is_resumed=False,
        known_uids=0,
    )


def entered(
    opening: Opening, state: RunState, known_uids: int = 0, settled: tuple[int, int] = (0, 0)
) -> Opening:
    """Return the opening of a recorded run.

    `settled`: how many of the `known_uids` are accepted, and how many are rejected.
    """
    return replace(
        opening,
        run=state.run.name,
        is_resumed=state.is_resumed,
        known_uids=known_uids,
        accepted_before=settled[0],
        rejected_before=settled[1],
    )
