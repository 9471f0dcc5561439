"""Carries out a run in an event loop, with signals that stop it and a view that shows it."""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa
import uvloop

from engine import Engine, Opening, RunResult, StopSwitch
from engine.cli import signals
from engine.cli.live_ceiling import allowed_between
from engine.cli.log_view import LogView
from engine.cli.messages import write_traceback
from engine.cli.summary import print_result
from engine.errors import ExitStatus
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.report.live_counts import LiveCounts

if TYPE_CHECKING:
    from engine import Observers
    from engine.cli.run_view import Estimate, View
    from engine.pacing.settings import PacingSettings

T = TypeVar("T")


def carry_out(
    opening: AbstractAsyncContextManager[Engine],
    start: "Callable[[Engine, View, Observers], Awaitable[RunResult]]",
    *,
    as_json: bool,
    cohort: str | None = None,
    stops: "StopSignals | None" = None,
) -> ExitStatus:
    """Run, show progress on stderr, print the accounts on stdout; return the exit status.

    `cohort` is the key of a configured cohort, whose workspace is used; by default the engine's is.
    The first signal drains the run, the second cancels it. With `stops`, whose block the caller has
    entered, more work can follow. Without `stops`, the process is expected to end with the run's
    exit status, and one more signal does not prevent the accounts from being printed.
    """

    async def run(switch: StopSwitch) -> RunResult:
        async with opening as engine:
            with shown(engine, switch, cohort) as (view, observers):
                return await start(engine, view, observers)

    if stops is not None:
        result = stops.run(run)
    else:
        with StopSignals() as own:
            result = own.run(run)
            own.end(result.exit_status)
    show_result(result, as_json=as_json)
    return result.exit_status


def show_result(result: RunResult, *, as_json: bool) -> None:
    """Print a run's accounts, and the traceback if a bug ended the run."""
    if result.bug is not None:
        write_traceback(result.bug)
    print_result(result, as_json=as_json)


@contextmanager
def shown(
    engine: Engine, switch: StopSwitch, cohort: str | None = None
) -> "Iterator[tuple[View, Observers]]":
    """Show one run on stderr during the block; yield its view, and the observers to pass on.

    It is a run in the workspace of a configured `cohort`, by its key, or of the engine.
    """
    openings: list[Opening] = []
    config = engine.config_of(cohort)
    view = _view(config.pacing, lambda: openings[-1].expected_uids() if openings else None)

    def opened(opening: Opening) -> None:
        # Objects that exist now are kept. Otherwise the collector would scan them repeatedly, which
        # took 0.2 CPU seconds per million uids.
        gc.freeze()
        # Arrow's own allocator returns its pages between two reads, and allocates them again.
        pa.set_memory_pool(pa.system_memory_pool())
        openings.append(opening)
        view.opened(opening)

    for note in config.notes:
        view.note(note, label="note")
    with view:
        yield (
            view,
            {
                "observe": lambda each: view.observe(each.event),
                "opened": opened,
                "note": view.note,
                "switch": switch,
            },
        )


def _view(pacing: "PacingSettings", estimate: "Estimate") -> "View":
    """Return the view for stderr: a bar on a terminal, otherwise log lines."""
    counts = LiveCounts(pacing.requests / pacing.per_seconds, time.monotonic())
    if pacing.hours:
        counts.allowed_between = allowed_between(HourlyCeiling(pacing))
    if not sys.stderr.isatty():
        return LogView(counts, estimate)
    from engine.cli.terminal_view import TerminalView

    return TerminalView(counts, estimate)


class StopSignals:
    """Passes signals to the work of a block: coroutines in sequence, each in its own event loop.

    A signal between two coroutines stops the next one.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._switch = StopSwitch()
        self._restored: ExitStack = ExitStack()

    def __enter__(self) -> Self:
        self._restored.enter_context(signals.forwarded_to(self._receive))
        return self

    def __exit__(self, *_: object) -> None:
        self._restored.close()

    def run(self, work: Callable[[StopSwitch], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end, and return its result."""

        async def run() -> T:
            self._loop = asyncio.get_running_loop()
            try:
                return await work(self._switch)
            finally:
                self._loop = None

        return uvloop.run(run())

    def end(self, exit_status: int) -> None:
        """End the block after the last work; later signals are handled by `signals.exit_with`."""
        self._restored.pop_all()
        signals.exit_with(exit_status)

    def _receive(self, name: str) -> None:
        reason = f"{name} received"
        if self._loop is None:
            self._switch.pull(reason)
        else:  # The loop may be in the middle of a step.
            self._loop.call_soon_threadsafe(self._switch.pull, reason)
