"""One night, in which a minute takes two seconds: six cohorts, two workspaces, 1.5 million uids.

An export is cut off, one is missing, and one has a uid that the API rejects. One workspace answers
nothing but 429s for an hour, and the key of the other one is replaced. The sync is stopped half-way
and started again; in the morning the exports are put right.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyte", reason="the terminal of this proof is pyte's: pip install pyte")
pytest.importorskip("apprise", reason="notifications need Apprise: pip install apprise")

from browser import CHROMIUM, chromium, open_tab
from one_night import COLUMNS, NEW_KEY, OLD_KEY, POISON, THROTTLED, Night, one_night, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    async with one_night(tmp_path) as begun:
        yield begun


def write_earlier_exports(night: Night) -> dict[str, set[str]]:
    return {
        "vip": night.write("vip", 0, 100_000),
        "newsletter": night.write("newsletter", 0, 10_000),
        "lapsed": night.write("lapsed", 0, 150_000),
        "buyers": night.write("buyers", 0, 50_000),
        "cart": night.write("cart", 0, 10_000),
        "prospects": night.write("prospects-1", 0, 40_000),
    }


def write_exports(night: Night) -> dict[str, set[str]]:
    """Write those of the night; return who has to be a member of each cohort in the morning."""
    night.write("lapsed", 0, 50_000)
    (night.cli.folder / "cohorts.d" / "exports" / "prospects-1.txt").unlink()
    return {
        "vip": night.write("vip", 5_000, 355_000),
        "newsletter": night.write("newsletter", 0, 400_000, POISON) - {POISON},
        "buyers": night.write("buyers", 2_000, 352_000),
        "cart": night.write("cart", 0, 200_000),
    }


def statuses(document: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {each["cohort"]: (each["status"], each["exit_status"]) for each in document["cohorts"]}


async def test_one_night(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(title: str, lines: object) -> None:
        with capsys.disabled():
            text = "\n".join(lines) if isinstance(lines, list) else str(lines)
            print(f"\n--- {title}\n{text}")  # noqa: T201 - what the proof saw

    wanted = await asyncio.to_thread(write_earlier_exports, night)
    status, document = await night.ask("sync")
    assert status == 0, document["reason"]
    assert {key: night.members(key) for key in wanted} == wanted
    assert night.notices() == (["/ping/S3CRET/start", "/ping/S3CRET/0"], [])

    wanted |= await asyncio.to_thread(write_exports, night)
    stopped = await stop_half_way(night)
    tell("stopped", json.dumps(statuses(stopped)))
    pings, told = night.notices()
    tell("notices", [*pings, *(json.dumps(each, indent=1) for each in told)])

    status, lines = await night.on_terminal("sync")
    tell(f"continued: {status}", lines)
    pings, told = night.notices()
    tell("notices", [*pings, *(json.dumps(each, indent=1) for each in told)])
    tell("after.log", (night.cli.folder / "after.log").read_text())
    tell("metrics", (night.cli.folder / "cohortsync.prom").read_text())


async def stop_half_way(night: Night) -> dict[str, Any]:
    """Start the sync, replace a key while it sends, and stop it within the hour of 429s."""
    eu, us = (night.apis[name].counts for name in ("eu", "us"))
    before = us.requests
    running = night.cli.start("sync", "--json")
    await until(lambda: us.requests > before + 100, "the second workspace sends")
    night.replace_key()
    await until(lambda: us.requests > before + 250, "it sends with the new key")
    await until(lambda: eu.faults["429"] > 3, "the first workspace is throttled")
    running.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(running.wait)
    return ended.document
