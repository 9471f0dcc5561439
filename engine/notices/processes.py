"""Processes that never outlive the work that needs them, nor does what they start."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from engine.cancellation import await_to_end

_ENDING_SECONDS = 5.0
"""Between the request to end a process and its end by force."""


@asynccontextmanager
async def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    is_asked: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program without a shell during the block; what it writes to stderr is dropped.

    With `is_asked`, it has pipes for stdin and stdout, otherwise neither. If it still runs at the
    end of the block, it is ended with all that it has started. Raises `OSError` if it can't be
    started, `ValueError` for an argument with NUL.
    """
    pipe = asyncio.subprocess.PIPE if is_asked else asyncio.subprocess.DEVNULL
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=dict(environment),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            # So that all that it starts can be ended with it, and Ctrl-C does not end it.
            start_new_session=True,
        )
    )
    try:
        yield await await_to_end(starting)
    finally:
        if starting.done() and not starting.cancelled() and starting.exception() is None:
            await await_to_end(_end(starting.result()))


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it has started, by force if it does not end soon."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECONDS):
                await process.wait()
