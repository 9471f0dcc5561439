"""Where metrics go: a file, a push gateway, a port."""

import stat
from pathlib import Path

import aiohttp
import pytest
from receiver import Receiver

from engine.notices.metric_outputs import push, served, write_textfile
from engine.notices.metrics import SyncMetrics
from engine.notices.web import UndeliveredError, WebAddress
from synced import COHORT


@pytest.fixture
def metrics() -> SyncMetrics:
    metrics = SyncMetrics([COHORT])
    metrics.begin(0)
    return metrics


def test_the_textfile_is_replaced_at_once_and_readable_by_others(
    tmp_path: Path, metrics: SyncMetrics
) -> None:
    path = tmp_path / "cohortsync.prom"
    path.write_text("older", encoding="utf-8")
    older = path.stat().st_ino
    write_textfile(path, metrics)
    assert path.read_bytes() == metrics.text()
    assert path.stat().st_ino != older
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_textfile_that_cannot_be_written_is_told(tmp_path: Path, metrics: SyncMetrics) -> None:
    with pytest.raises(UndeliveredError, match="cannot be written"):
        write_textfile(tmp_path / "not there" / "x.prom", metrics)


async def test_metrics_are_pushed_as_one_group(receiver: Receiver, metrics: SyncMetrics) -> None:
    await push(WebAddress.parse(f"{receiver.url}/base/", is_secret=False), metrics)
    [(method, path, body)] = receiver.requests
    assert (method, path) == ("PUT", "/base/metrics/job/cohortsync")
    assert body.encode() == metrics.text()
    assert receiver.headers[0]["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_metrics_are_served_on_loopback_until_the_sync_ends(metrics: SyncMetrics) -> None:
    async with served("127.0.0.1", 0, metrics) as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/metrics"
        async with session.get(url) as response:
            assert (response.status, await response.read()) == (200, metrics.text())
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == 404
        with pytest.raises(UndeliveredError, match="in use"):
            async with served("127.0.0.1", port, metrics):
                pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url)
