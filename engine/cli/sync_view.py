"""What each view of a running sync does."""

import asyncio
import gc
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import pyarrow as pa

from engine import CohortResult, Opening, Phase, StopSwitch, SyncObservers, SyncOpening
from engine.cli.disturbance import Disturbance
from engine.cli.run_view import Remarks
from engine.cli.sync_progress import CohortProgress, SyncProgress, WorkspaceProgress
from engine.cli.verbosity import verbosity
from engine.delivery.events import Event, RunEvent
from engine.report.forecast import CohortForecast


class SyncView(ABC):
    """Shows a sync during a block that encloses it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._progress: SyncProgress | None = None
        self._shown = verbosity()
        self._remarks: dict[str, Remarks] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        if self._progress is None:
            return
        for workspace in self._progress.workspaces.values():
            for each in workspace.disturbances.end():
                self.disturbed(workspace, each)

    def observers(self, switch: StopSwitch) -> SyncObservers:
        """Return observers that show what a sync does."""
        return SyncObservers(
            begun=self._begun,
            phase=self._phase,
            opened=self._opened,
            planned=self._planned,
            forecast=self._forecast,
            ended=self._ended,
            observe=self._observe,
            note=self.note,
            switch=switch,
        )

    @abstractmethod
    def begun(self, opening: SyncOpening) -> None:
        """Show the begin of the sync."""

    @abstractmethod
    def entered(self, cohort: CohortProgress) -> None:
        """Show what a cohort does from now on."""

    @abstractmethod
    def opened(self, key: str, opening: Opening) -> None:
        """Show the begin of a cohort's run."""

    @abstractmethod
    def planned(self, key: str, plan: Mapping[str, Any]) -> None:
        """Show the plan of a mirrored cohort."""

    @abstractmethod
    def forecast(self, sentence: str, forecasts: Mapping[str, CohortForecast]) -> None:
        """Show when all would be done."""

    @abstractmethod
    def remark(self, key: str, event: Event, sentence: str) -> None:
        """Show an event of a run that is worth a line."""

    @abstractmethod
    def disturbed(self, workspace: WorkspaceProgress, disturbance: Disturbance) -> None:
        """Show a disturbance when it begins and when it is over."""

    @abstractmethod
    def ended(self, result: CohortResult) -> None:
        """Show how a cohort ended."""

    @abstractmethod
    def note(self, text: str, *, label: str | None = None) -> None:
        """Show a remark; its label is its kind, `note` or `warning`."""

    @abstractmethod
    def tick(self) -> None:
        """Show what changes with time alone; called each second."""

    @property
    def _state(self) -> SyncProgress:
        if self._progress is None:
            raise RuntimeError("a sync is followed once it has begun")
        return self._progress

    def _begun(self, opening: SyncOpening) -> None:
        self._progress = SyncProgress(opening, self._now())
        self._remarks = {each.key: Remarks(self._shown) for each in opening.cohorts}
        self.begun(opening)

    def _phase(self, key: str, phase: Phase) -> None:
        self._state.enter(key, phase)
        self.entered(self._state.cohorts[key])

    def _opened(self, key: str, opening: Opening) -> None:
        # As for a single run; see `running.shown`.
        gc.freeze()
        pa.set_memory_pool(pa.system_memory_pool())
        self._state.open(key, opening)
        self.opened(key, opening)

    def _planned(self, key: str, plan: dict[str, Any]) -> None:
        self._state.plan(key, plan, self._now())
        self.planned(key, plan)

    def _forecast(self, sentence: str, forecasts: Mapping[str, CohortForecast]) -> None:
        self._state.expect(forecasts)
        self.forecast(sentence, forecasts)

    def _ended(self, result: CohortResult) -> None:
        self._state.end(result)
        self.ended(result)

    def _observe(self, event: RunEvent) -> None:
        key, now = self._state.key_of(event), self._now()
        if key is None:
            return
        self._state.cohorts[key].counts.fold(event.event, now)
        workspace = self._state.workspace_of(key)
        for each in workspace.fold(event, now):
            self.disturbed(workspace, each)
        if (sentence := self._remarks[key].on(event.event)) is not None:
            self.remark(key, event.event, sentence)


@asynccontextmanager
async def ticking(view: SyncView, seconds: float = 1.0) -> AsyncIterator[None]:
    """Let a view show, during the block, what changes with time alone."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal timer
        view.tick()
        timer = loop.call_later(seconds, tick)

    timer = loop.call_later(seconds, tick)
    try:
        yield
    finally:
        timer.cancel()


def is_warning(text: str, label: str | None) -> bool:
    """Return whether a remark is a warning, by its label or its first word."""
    return label == "warning" or text.startswith("warning: ") or ": warning: " in text
