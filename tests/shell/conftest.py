"""What tests of this folder share: event loops, and a ledger whose clock is set by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from ledger_entries import HandClock

from engine.ledger.sqlite.ledger import Ledger


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of the transport on the command's own loop too, whose errors differ."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name == "test_proxies.py":
        return {"uvloop": uvloop.new_event_loop}
    if item.path.name in {"test_transport.py", "test_desync.py", "test_idle_connections.py"}:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Serve S3 from moto's own HTTP server; credentials are in the environment meanwhile."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow, and few need it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: HandClock) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(tmp_path / "ledger.sqlite", clock)
    yield ledger
    await ledger.close()
