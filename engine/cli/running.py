"""A run inside its event loop, with signals that stop it and a view that shows it."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pyarrow as pa
import uvloop

from engine.cli.view import View
from engine.report.result import RunResult
from engine.sending import StopSwitch

T = TypeVar("T")
Start = Callable[..., Coroutine[Any, Any, RunResult]]
"""Begins a run; takes `observe`, `opened`, `note` and `switch` by name, as `push` does."""


def run_shown(view: View, start: Start) -> RunResult:
    """Run to the end; the first signal drains, the second cancels."""

    async def run(switch: StopSwitch) -> RunResult:
        # What was imported stays. The collector would walk through all of it again and again,
        # which took 0.2 CPU seconds a million uids.
        gc.freeze()
        # Arrow's own allocator gives its pages back between two reads, and takes them again.
        pa.set_memory_pool(pa.system_memory_pool())
        return await start(observe=view.observe, opened=view.opened, note=view.note, switch=switch)

    with view:
        return stoppable(run)


def stoppable(work: Callable[[StopSwitch], Coroutine[Any, Any, T]]) -> T:
    """Run to the end in an event loop; `work` is given the switch that signals pull."""
    # A process that was started to outlive its terminal goes on ignoring its end.
    stops = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.getsignal(number) for number in stops}

    async def run() -> T:
        switch = StopSwitch()
        loop = asyncio.get_running_loop()
        for number in stops:
            loop.add_signal_handler(number, switch.pull, f"{number.name} received")
        return await work(switch)

    try:
        return uvloop.run(run())
    finally:  # The loop has put the interpreter's own in their place.
        for number, handler in handlers.items():
            signal.signal(number, handler)


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that stop a run."""


def show_notes(view: View, *notes: str | None) -> None:
    """Show what the user should know before a run."""
    for note in notes:
        if note:
            view.note(note, label="note")
