"""The notices of a sync are those of the configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest
from ledger_entries import HandClock

from engine.config.loading import load_project
from engine.delivery.stop import StopSwitch
from engine.errors import ConfigError
from engine.ledger.sqlite.ledger import Ledger
from engine.notices.ports import NoticeContext
from engine.sync.notices import notices_of
from synced import pushed, synced

CONFIGURATION = """
[workspaces.eu]
id = "E"
endpoint = "http://127.0.0.1:9"
[workspaces.us]
id = "U"
endpoint = "http://127.0.0.1:9"
[metrics]
textfile = "cohortsync.prom"
[sync]
after = ["touch", "all"]
[cohorts.vip]
name = "VIP customers"
workspace = "eu"
source = "vip.csv"
expect_every = "24h"
marker = "done/vip-{date}"
after = ["touch", "vip"]
[cohorts.lapsed]
name = "Lapsed"
workspace = "us"
source = "lapsed.csv"
"""


@asynccontextmanager
async def no_ledger(_: str) -> AsyncIterator[Ledger]:
    raise AssertionError
    yield


async def test_paths_are_relative_to_the_file_and_dates_are_those_of_the_export(
    tmp_path: Path, ledger: Ledger
) -> None:
    (tmp_path / "config.toml").write_text(CONFIGURATION, encoding="utf-8")
    project = load_project(tmp_path / "config.toml", need_credentials=False, environ={})
    opened = []

    @asynccontextmanager
    async def open_ledger(name: str) -> AsyncIterator[Ledger]:
        opened.append(name)
        yield ledger

    notes: list[str] = []
    day = {"vip": date(2026, 11, 27)}
    clock = HandClock()
    context = NoticeContext(open_ledger, clock, notes.append, StopSwitch())
    async with notices_of(project, day, context) as notices:
        await notices.check()
        await notices.begin("sync-1", clock.utc_ns)
        notices.cohort_begins("vip")
        result = await notices.cohort_ended(pushed(10))
        await notices.end(synced(result, at_utc_ns=clock.utc_ns))
    assert notes == []
    assert (tmp_path / "vip").exists()
    assert (tmp_path / "all").exists()
    assert (tmp_path / "done" / "vip-2026-11-27").exists()
    text = (tmp_path / "cohortsync.prom").read_text(encoding="utf-8")
    assert 'last_sync_timestamp_seconds{cohort="vip",workspace="eu"} 1.7e+09' in text
    assert 'expected_interval_seconds{cohort="vip",workspace="eu"} 86400.0' in text
    assert set(opened) == {"eu"}, "the other workspace has no ledger, and gets none"
    assert not (tmp_path / "state").exists()


def test_a_ping_s_url_is_checked_and_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    text = '[workspace]\nid = "W"\nendpoint = "http://127.0.0.1:9"\n[pings]\nurl = "file:ping"\n'
    file.write_text(text, encoding="utf-8")
    project = load_project(file, need_credentials=False, environ={})
    assert project.shared.pings.url == f"file:{tmp_path / 'ping'}"
    (tmp_path / "ping").write_text("http://monitor.example/S3CRET\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        notices_of(project, {}, NoticeContext(no_ledger, HandClock(), print, StopSwitch()))
    assert caught.value.message == (
        f"{file}: `pings.url` should begin with https://: http:// is for this machine only"
    )
