"""A run inside its event loop, with signals that stop it and a view that shows it."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from engine.cli.view import View
from engine.report.result import RunResult
from engine.sending import StopSwitch

Start = Callable[..., Coroutine[Any, Any, RunResult]]
"""Begins a run; takes `observe`, `opened`, `note` and `switch` by name, as `push` does."""


def run_shown(view: View, start: Start) -> RunResult:
    """Run to the end; the first signal drains, the second cancels."""
    handlers = {number: signal.getsignal(number) for number in _STOPS}
    try:
        with view:
            return uvloop.run(_run(view, start))
    finally:  # The loop has put the interpreter's own in their place.
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _run(view: View, start: Start) -> RunResult:
    # What was imported stays. The collector would walk through all of it again and again, which
    # took 0.2 CPU seconds a million uids.
    gc.freeze()
    switch = StopSwitch()
    loop = asyncio.get_running_loop()
    for number in _STOPS:
        loop.add_signal_handler(number, switch.pull, f"{number.name} received")
    return await start(
        observe=view.observe,
        opened=view.opened,
        note=view.note,
        switch=switch,
    )


_STOPS = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a run."""


def tell(view: View, *notes: str | None) -> None:
    """Show what the user should know before a run."""
    for note in notes:
        if note:
            view.note(f"note: {note}")
