"""What all work on one mirrored cohort shares: its lock, its ledger and its snapshots."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from engine.clock import Clock
from engine.config.loading import Config
from engine.delivery.events import Observer
from engine.delivery.sender import StopSwitch, compute_or_stop
from engine.ledger.neighbors import announced
from engine.ledger.records import (
    MIRROR,
    ExecutionSettings,
    RunCommand,
    RunKey,
    RunReference,
    RunState,
)
from engine.ledger.sqlite.ledger import Ledger, sole_ledger
from engine.model.cohort import Cohort, CohortKey
from engine.report.figures import Ceiling
from engine.report.result import Opening
from engine.runs.planner import MirrorRequest
from engine.snapshot.store import SnapshotStore
from engine.source.protocol import files_of
from engine.storage.duckdb_session import Interruption

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """One cohort's, for one process."""

    config: Config
    key: CohortKey
    observe: Observer
    note: Callable[[str], None]
    """Hears, in words for people, what the work is at."""
    switch: StopSwitch
    clock: Clock

    @asynccontextmanager
    async def open(self, wait_seconds: float) -> AsyncIterator[tuple[Ledger, SnapshotStore]]:
        """Hold the workspace's lock and its ledger, put in order."""
        config = self.config
        place = config.place
        folder = place.folder
        async with sole_ledger(
            folder,
            self.clock,
            wait_seconds,
            lambda: self.switch.is_pulled,
            lambda who: self.note(f"waiting for {who}"),
        ) as ledger:
            store = SnapshotStore(
                *(folder, ledger.snapshots, self.key, config.mirror, config.planning, self.clock),
                compute=self._compute,
            )
            workspace = config.workspace
            try:
                with announced(
                    workspace.endpoint.identity, workspace.id, config.state_dir
                ) as others:
                    for other in others:
                        self.note(
                            f"warning: {other}: the two do not share the ceiling; give both the "
                            "same state folder"
                        )
                    yield ledger, store
            finally:
                # What stays behind is removed by a later run. It must not hide how this one ended.
                with suppress(Exception):
                    store.close()

    async def _compute(self, work: Callable[[Interruption], T]) -> T:
        return await compute_or_stop(work, self.switch, minds_earlier=False)

    @property
    def _execution(self) -> ExecutionSettings:
        pacing = self.config.pacing
        return ExecutionSettings(
            pacing.requests, pacing.per_seconds, self.config.packing.payload_bytes
        )

    async def begin(self, ledger: Ledger, request: MirrorRequest) -> RunState:
        """Enter a new run; an unfinished one of the same command is not gone on with."""
        workspace = self.config.workspace
        key = RunKey(
            self.config.place.endpoint,
            workspace.id,
            workspace.partner,
            request.cohort,
            None,
            request.source.identity,
        )
        command = RunCommand(request.spec, files_of(request.source))
        return await ledger.runs.begin_new(key, command, self._execution)

    async def begin_execution(self, ledger: Ledger, run: RunReference) -> RunState:
        """Enter another process that works on a plan."""
        return await ledger.runs.begin_execution(run, self._execution)

    def opening(
        self, state: RunState, cohort: Cohort, settled: tuple[int, int] = (0, 0)
    ) -> Opening:
        """Say where a run goes; `settled`: how many of its uids are accepted, and rejected."""
        workspace, pacing = self.config.workspace, self.config.pacing
        return Opening(
            workspace.endpoint.label,
            workspace.id,
            workspace.partner,
            cohort,
            MIRROR,
            Ceiling(pacing.requests, pacing.per_seconds),
            state.name,
            state.is_resumed,
            sum(settled),
            *settled,
        )
