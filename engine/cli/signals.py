"""Handles the signals that stop the command, for its whole duration.

This module is imported before all others, so that a signal during the imports ends the process in
the same way as a later one. It imports only modules that load fast.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from engine.cli import log_format
from engine.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that stop a run."""

_Handler = Callable[[int, FrameType | None], None]


class InterruptedCommandError(KeyboardInterrupt):
    """A signal arrived while a command had resources to clean up; see `raised`."""


def exit_at_once() -> None:
    """From now on, a signal ends the process with one line and exit status 75.

    Nothing is cleaned up, because outside a run nothing needs it.
    """
    _install(_exit)


def exit_with(status: int) -> None:
    """From now on, ignore the first signal; the second ends the process with `status`.

    For a command that has its exit status and has not printed its result yet.
    """
    received: list[int] = []

    def exit_(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(status)

    _install(exit_)


def ignore() -> None:
    """From now on, ignore signals, because the result is printed."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def forwarded_to(receive: Callable[[str], None]) -> "Iterator[None]":
    """Call `receive` with the name of each signal during the block.

    It is called in the main thread, between any two instructions.
    """
    with _installed(lambda number, _: receive(_name(number))):
        yield


@contextmanager
def raised() -> "Iterator[None]":
    """Raise `InterruptedCommandError` inside the block when a signal arrives."""
    with _installed(_raise):
        yield


def interruption(number: int) -> str:
    """Return the sentence for a signal outside a run."""
    return f"{_name(number)} received while no run was under way"


def _install(handler: _Handler) -> None:
    for number in STOPS:
        # A process that was started to outlive its terminal keeps ignoring SIGHUP.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def _installed(handler: _Handler) -> "Iterator[None]":
    before = {number: signal.getsignal(number) for number in STOPS}
    _install(handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _name(number: int) -> str:
    return signal.Signals(number).name


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise InterruptedCommandError(interruption(number))


def _exit(number: int, _frame: FrameType | None) -> None:
    # Some imports would suppress an exception, and others would print its traceback.
    reason = interruption(number)
    if os.isatty(2):
        _write(2, f"error: {reason}\n")
    else:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        status = int(ExitStatus.INCOMPLETE)
        if log_format.is_json():
            line = (
                f'{{"time": "{moment}", "level": "error", "event": "error", '
                f'"text": "{reason}", "exit_status": {status}}}'
            )
        else:
            line = f'time={moment} level=error event=error text="{reason}" exit_status={status}'
        _write(2, f"{line}\n")
    if "--json" in sys.argv:
        _write(
            1,
            f'{{"run": null, "status": "failed", "exit_status": {ExitStatus.INCOMPLETE:d}, '
            f'"reason": "{reason}", "hint": null, "schema_version": 1}}\n',
        )
    os._exit(ExitStatus.INCOMPLETE)


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):
        os.write(descriptor, text.encode())
