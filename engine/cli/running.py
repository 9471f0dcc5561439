"""A run inside its event loop, with signals that stop it and a view that shows it."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Self, TypeVar

import pyarrow as pa
import uvloop

from engine.cli import signals
from engine.cli.messages import tell_traceback
from engine.cli.view import View
from engine.config.loading import Config
from engine.delivery.stop import StopSwitch
from engine.report.result import RunResult
from engine.runs.context import RunObservers
from engine.runs.session import WorkspaceSession

T = TypeVar("T")
Start = Callable[[WorkspaceSession, RunObservers], Coroutine[Any, Any, RunResult]]
"""Begins a run."""


def run_shown(
    view: View,
    config: Config,
    start: Start,
    *,
    planned: Callable[[dict[str, Any]], None] = lambda _: None,
    signalled: "StopSignals | None" = None,
) -> RunResult:
    """Run to the end; the first signal drains, the second cancels.

    With `signalled`, whose block the caller is in, further runs can follow. Without it the process
    is about to end with the run's exit status: one more signal does not keep the accounts from
    being shown. A bug is shown by its traceback.
    """

    async def run(switch: StopSwitch) -> RunResult:
        # What was imported stays. The collector would walk through all of it again and again,
        # which took 0.2 CPU seconds a million uids.
        gc.freeze()
        # Arrow's own allocator gives its pages back between two reads, and takes them again.
        pa.set_memory_pool(pa.system_memory_pool())
        observers = RunObservers(
            observe=lambda told: view.observe(told.event),
            opened=view.opened,
            planned=planned,
            note=view.note,
        )
        async with WorkspaceSession(config, switch=switch) as session:
            return await start(session, observers)

    if signalled is not None:
        with view:
            result = signalled.run(run)
    else:
        with StopSignals() as stops:
            with view:
                result = stops.run(run)
            stops.end(result.exit_status)
    if result.bug is not None:
        tell_traceback(result.bug)
    return result


def stoppable(work: Callable[[StopSwitch], Coroutine[Any, Any, T]]) -> T:
    """Run to the end in an event loop; `work` is given the switch that signals pull."""
    with StopSignals() as stops:
        return stops.run(work)


class StopSignals:
    """Signals that stop the work of a block: one piece after the other, each in a loop of its own.

    A signal that comes between two pieces stops the next one.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._switch = StopSwitch()
        self._restored: ExitStack = ExitStack()

    def __enter__(self) -> Self:
        self._restored.enter_context(signals.passed_to(self._hear))
        return self

    def __exit__(self, *_: object) -> None:
        self._restored.close()

    @property
    def has_come(self) -> bool:
        """Whether a signal has come: then nothing more should begin."""
        return self._switch.is_pulled

    def run(self, work: Callable[[StopSwitch], Coroutine[Any, Any, T]]) -> T:
        """Run a piece of work to its end, and return what it returns."""

        async def run() -> T:
            self._loop = asyncio.get_running_loop()
            try:
                return await work(self._switch)
            finally:
                self._loop = None

        return uvloop.run(run())

    def end(self, exit_status: int) -> None:
        """Leave the block with no more work to come, and the process's exit status known."""
        self._restored.pop_all()
        signals.leave_with(exit_status)

    def _hear(self, name: str) -> None:
        reason = f"{name} received"
        if self._loop is None:
            self._switch.pull(reason)
        else:  # The loop may be amid a step of its own.
            self._loop.call_soon_threadsafe(self._switch.pull, reason)


def show_notes(view: View, *notes: str | None) -> None:
    """Show what the user should know before a run."""
    for note in notes:
        if note:
            view.note(note, label="note")
