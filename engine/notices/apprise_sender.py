"""Sends notifications by Apprise in a process of its own, with a limit on its time."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from engine.errors import ConfigError
from engine.model.workspace import KEY_VARIABLE
from engine.notices.messages import Message
from engine.notices.processes import running

Result = Literal["ok", "failed", "invalid", "timeout"]
_PROGRAM = Path(__file__).with_name("apprise_process.py")


def require_apprise() -> None:
    """Raise `ConfigError` if Apprise is not installed."""
    if find_spec("apprise") is None:
        raise ConfigError(
            "notifications need Apprise, which is not installed",
            hint="install the extra: pip install 'cohortsync[notify]'",
        )


async def check_urls(urls: Sequence[str], seconds: float) -> list[Result]:
    """Return for each URL whether a service takes it; nothing is sent."""
    return await _ask([{"url": url, "title": None} for url in urls], seconds)


async def send_messages(messages: Sequence[tuple[str, Message]], seconds: float) -> list[Result]:
    """Send each message to its URL, all at the same time; return how each of them ended."""
    return await _ask([{"url": url, **asdict(message)} for url, message in messages], seconds)


async def _ask(entries: Sequence[Mapping[str, object]], seconds: float) -> list[Result]:
    """Return the results of the program; `timeout` for those that it has not written in time."""
    if not entries:
        return []
    # -P: modules beside the program are not to be found under their bare names.
    command = (sys.executable, "-P", str(_PROGRAM))
    environment = {name: value for name, value in os.environ.items() if KEY_VARIABLE not in name}
    lines: list[bytes] = []
    missing: Result = "failed"
    async with running(command, environment, is_asked=True) as process:
        try:
            async with asyncio.timeout(seconds):
                await _exchange(process, json.dumps(entries).encode(), lines)
                await process.wait()
        except TimeoutError:
            missing = "timeout"
    found: dict[int, Result] = {}
    for line in lines:
        index, _, result = line.decode().strip().partition(" ")
        found[int(index)] = result  # type: ignore[assignment] # the program writes no other
    return [found.get(index, missing) for index in range(len(entries))]


async def _exchange(
    process: asyncio.subprocess.Process, request: bytes, lines: list[bytes]
) -> None:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(request)
        await process.stdin.drain()
        process.stdin.close()
    while line := await process.stdout.readline():
        lines.append(line)
