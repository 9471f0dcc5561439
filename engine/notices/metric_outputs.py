"""Where metrics go: a file for node_exporter, a push gateway, or a port while a sync runs."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from engine.errors import CohortSyncError
from engine.notices.metrics import SyncMetrics
from engine.notices.web import UndeliveredError, WebAddress, request
from engine.storage.files import new_file

_JOB = "cohortsync"
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PUSH_SECONDS = 10.0


def write_textfile(path: Path, metrics: SyncMetrics) -> None:
    """Replace a file with the metrics, at once; others may read it. Raises `UndeliveredError`."""
    try:
        with new_file(path) as file:
            file.write(metrics.text())
            os.fchmod(file.fileno(), 0o644)
    except CohortSyncError as error:
        raise UndeliveredError(error.message) from None


async def push(address: WebAddress, metrics: SyncMetrics) -> None:
    """Replace the job's metrics in a push gateway; raises `UndeliveredError`."""
    await request(
        "PUT",
        address,
        address.below("metrics", "job", _JOB),
        body=metrics.text(),
        headers={"Content-Type": _CONTENT_TYPE},
        seconds=PUSH_SECONDS,
    )


@asynccontextmanager
async def served(host: str, port: int, metrics: SyncMetrics) -> AsyncIterator[int]:
    """Serve the metrics at `/metrics` during the block; yield the port.

    Raises `UndeliveredError` if the port is in use or not allowed.
    """

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": _CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else "no such address"
            raise UndeliveredError(f"port {port} of {host}: {reason}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
