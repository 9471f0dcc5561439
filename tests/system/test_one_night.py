"""One night, in which a minute takes two seconds: six cohorts, two workspaces, 1.5 million uids.

An export is cut off, one is missing, and one has a uid that the API rejects. One workspace answers
nothing but 429s for an hour, and the key of the other one is replaced. The sync is stopped half-way
and started again; in the morning the exports are put right.
"""

import asyncio
import json
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyte", reason="the terminal of this proof is pyte's: pip install pyte")
pytest.importorskip("apprise", reason="notifications need Apprise: pip install apprise")

from browser import CHROMIUM, chromium, open_tab
from one_night import (
    COLUMNS,
    NEW_KEY,
    OLD_KEY,
    PER_SECONDS,
    POISON,
    REQUESTS,
    THROTTLED,
    Night,
    one_night,
    until,
)
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow
_UID = re.compile(r"(vipx|news|laps|buye|cart|pros)[0-9a-f]{20}")
_UP_TO_DATE, _WITH_REJECTS = ("up_to_date", 0), ("up_to_date", 1)
WAITING, QUICK = {"vip", "newsletter"}, {"buyers", "cart"}
"""The cohorts that can be sent in the throttled workspace, and in the other one."""
TWO_DAYS_NS = 2 * 86_400_000_000_000
Tell = Callable[[str, object], None]


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    async with one_night(tmp_path) as begun:
        yield begun


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print what the proof saw, captured or not; none of it may hold a secret or a uid."""

    def tell(title: str, seen: object) -> None:
        text = seen if isinstance(seen, str) else json.dumps(seen, indent=1, ensure_ascii=False)
        assert_discreet(text)
        with capsys.disabled():
            print(f"\n--- {title}\n{text}")  # noqa: T201 - what the proof saw

    return tell


def assert_discreet(text: str) -> None:
    """Check that a text has no credential and no uid."""
    for secret in (OLD_KEY, NEW_KEY, POISON, "S3CRET"):
        assert secret not in text
    assert not _UID.search(text)


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
    """Write those of the night; return who has to be a member of each cohort after it."""
    night.write("lapsed", 0, 50_000)
    (night.exports / "prospects-1.txt").unlink()
    return {
        "vip": night.write("vip", 5_000, 355_000),
        "newsletter": night.write("newsletter", 0, 400_000, POISON) - {POISON},
        "buyers": night.write("buyers", 2_000, 352_000),
        "cart": night.write("cart", 0, 200_000),
    }


def correct_exports(night: Night) -> dict[str, set[str]]:
    return {
        "lapsed": night.write("lapsed", 2_000, 150_000),
        "prospects": night.write("prospects-2", 1_000, 40_000),
    }


def statuses(document: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {each["cohort"]: (each["status"], each["exit_status"]) for each in document["cohorts"]}


async def test_one_night(night: Night, tell: Tell) -> None:
    wanted = await asyncio.to_thread(write_earlier_exports, night)
    status, document = await night.ask("sync")
    assert status == 0, document["reason"]
    assert_members(night, wanted)
    assert night.notices() == (["start", "0"], [])

    wanted |= await asyncio.to_thread(write_exports, night)
    left = await stop_half_way(night, tell)
    await go_on(night, tell, left)
    assert_members(night, wanted)
    assert_metrics(night, tell)
    page = night.cli.folder / "morning.html"
    assert_discreet(page.read_text(encoding="utf-8"))
    assert "3 of 6 cohorts need attention" in page.read_text(encoding="utf-8")
    if CHROMIUM is not None:
        await look_at(page)
    for command in ("status", "runs", "report"):
        tell(command, "\n".join((await night.on_terminal(command))[1]))

    wanted |= await asyncio.to_thread(correct_exports, night)
    await put_right(night, tell)
    assert_members(night, wanted)
    await find_nothing_to_do(night)
    await tell_who_is_overdue(night, tell)
    await assert_balanced(night)
    assert_ceiling_kept(night)


async def stop_half_way(night: Night, tell: Tell) -> set[str]:
    """Start the sync, replace a key while it sends, and stop it within the hour of 429s.

    Returns the cohorts that it left incomplete.
    """
    eu, us = (night.apis[name].counts for name in ("eu", "us"))
    before, received = us.requests, night.received()
    running = night.cli.start("sync", "--json")
    await until(lambda: us.requests > before + 60, "the second workspace sends")
    night.replace_key()
    await until(lambda: us.requests > before + 150, "it sends with the new key")
    await until(lambda: eu.faults["429"], "the first workspace is throttled")
    await until(lambda: "status=guarded" in running.stderr, "a guard stops a cohort")
    running.process.send_signal(signal.SIGTERM)
    ended = await asyncio.to_thread(running.wait)
    assert_discreet(ended.stdout + ended.log)
    assert ended.status == 2
    found = statuses(ended.document)
    left = {key for key, each in found.items() if each == ("incomplete", 75)}
    assert left > WAITING  # One of the other workspace may be done already.
    assert (found["lapsed"], found["prospects"]) == (("guarded", 4), ("missing", 2))
    assert left | {key for key, each in found.items() if not each[1]} == WAITING | QUICK
    assert ended.document["requests"] == night.received() - received
    assert us.statuses["401"] > 0
    assert "the API refused the key, which has been replaced since" in ended.log
    pings, messages = night.notices()
    tell("stopped: notifications", messages)
    assert pings == ["start", "2"]
    assert {each["to"]: each["title"] for each in messages} == {
        "crm": "cohortsync: 3 cohorts need attention",
        "everyone": f"cohortsync: {2 + len(left)} cohorts need attention",
        "growth": f"cohortsync: {1 + len(left & QUICK)} cohorts need attention",
    }
    return left


async def go_on(night: Night, tell: Tell, left: set[str]) -> None:
    """Give the same command again, on a terminal, and let it complete what it can."""
    status, lines = await night.on_terminal("sync")
    tell(f"continued: exit status {status}", "\n".join(lines))
    assert status == 2
    assert max(map(len, lines)) <= COLUMNS
    text = " ".join(" ".join(lines).split())
    for verdict in (
        r"✓ VIP customers: [0-9,]+ added, .*unchanged in ",
        r"✓ Buyers of this year: ",
        r"✓ Cart abandoners: ",
        r"! Newsletter readers: 400,000 added, 1 rejected in .* `cohortsync rejects [0-9a-f-]+`",
        r"✗ Lapsed customers: stopped, nothing sent: 100,000 removals of a cohort of 150,000",
        r"cohortsync sync lapsed --allow lapsed:removals=100000 --reason",
        r"✗ Prospects: no export: ",
        r"eu: 429 for .*: everything was held",
        r"✗ 6 cohorts: 3 ok, 1 with rejects, 1 stopped by a guard, 1 failed; .* by prospects$",
    ):
        assert re.search(verdict, text), verdict
    assert night.apis["eu"].counts.faults["429"] == THROTTLED[1] - THROTTLED[0] + 1
    pings, messages = night.notices()
    tell("continued: notifications", messages)
    assert pings == ["start", "2"]
    crm, everyone, growth = messages
    assert crm["title"] == (
        "cohortsync: Newsletter readers needs attention, VIP customers has recovered"
    )
    news = f"Newsletter readers needs attention, {len(left) - 1} cohorts have recovered"
    assert everyone["title"] == f"cohortsync: {news}"
    assert growth["title"].endswith(" recovered")
    assert growth["message"].count(" has recovered: ") == len(left & QUICK)
    assert night.followed() == ["vip 0 finished 100000", "sync 0", "vip 0 finished 350000"]
    assert night.markers() == {"vip", "buyers"}


async def put_right(night: Night, tell: Tell) -> None:
    """Sync what failed, with its exports corrected."""
    status, document = await night.ask("sync", "--failed")
    assert status == 1, document["reason"]
    assert statuses(document) == {
        "newsletter": _WITH_REJECTS,
        "lapsed": ("finished", 0),
        "prospects": ("finished", 0),
    }
    pings, messages = night.notices()
    tell("put right: notifications", messages)
    assert pings == ["start", "1"]
    assert {each["to"]: each["title"] for each in messages} == {
        "crm": "cohortsync: Lapsed customers has recovered",
        "everyone": "cohortsync: 2 cohorts have recovered",
        "growth": "cohortsync: Prospects has recovered",
    }
    assert night.markers() == {"vip", "buyers", "lapsed"}


async def find_nothing_to_do(night: Night) -> None:
    received = night.received()
    status, document = await night.ask("sync")
    assert status == 1
    others = set(night.workspaces) - {"newsletter"}
    assert statuses(document) == dict.fromkeys(others, _UP_TO_DATE) | {"newsletter": _WITH_REJECTS}
    assert (document["requests"], night.received()) == (0, received)
    assert night.notices() == (["start", "1"], [])
    assert night.markers() == {"vip", "buyers", "lapsed"}
    status, document = await night.ask("status")
    assert (status, document["reason"]) == (0, None)


async def tell_who_is_overdue(night: Night, tell: Tell) -> None:
    """Let two days pass, and sync one cohort: others are overdue then."""
    for path in night.cli.ledger_files():
        with closing(sqlite3.connect(path)) as ledger, ledger:
            for table in ("run", "synced_cohort"):
                earlier = f"finished_utc_ns = finished_utc_ns - {TWO_DAYS_NS}"
                ledger.execute(f"UPDATE {table} SET {earlier}")
    assert (await night.ask("sync", "cart"))[0] == 0
    pings, messages = night.notices()
    tell("two days later: notifications", messages)
    assert pings == ["start", "0"]
    assert {each["to"]: each["title"] for each in messages} == {
        "crm": "cohortsync: VIP customers needs attention",
        "everyone": "cohortsync: 2 cohorts need attention",
        "growth": "cohortsync: Prospects needs attention",
    }
    status, document = await night.ask("status")
    assert (status, document["reason"]) == (1, "overdue: vip, prospects")


def assert_members(night: Night, wanted: Mapping[str, set[str]]) -> None:
    for cohort, uids in wanted.items():
        members = night.members(cohort)
        assert not members - uids, f"{cohort} has members that it should not"
        assert not uids - members, f"{cohort} lacks members"


def assert_metrics(night: Night, tell: Tell) -> None:
    """Compare the metrics of the first three syncs with what the workspaces received."""
    text = (night.cli.folder / "cohortsync.prom").read_text(encoding="utf-8")
    assert night.pushed_metrics() == text
    tell("metrics", re.sub(r"(?m)^(#.*|.*_bucket.*)\n", "", text))
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    eu, us = (night.apis[name].counts for name in ("eu", "us"))
    assert samples["cohortsync_requests_total", "accepted", "eu"] == eu.accepted
    assert samples["cohortsync_requests_total", "accepted", "us"] == us.accepted
    assert samples["cohortsync_requests_total", "throttled", "eu"] == eu.statuses["429"]
    assert samples["cohortsync_requests_total", "fatal", "us"] == us.statuses["401"]
    assert samples["cohortsync_uids_total", "newsletter", "rejected", "eu"] == 1
    assert samples["cohortsync_syncs_total", "0"] == 1
    assert samples["cohortsync_syncs_total", "2"] == 2
    assert samples[
        "cohortsync_cohort_guard_blocks", "lapsed", "removals", night.workspaces["lapsed"]
    ]
    assert {
        name: samples["cohortsync_cohort_exit_status", name, workspace]
        for name, workspace in night.workspaces.items()
    } == {"vip": 0, "newsletter": 1, "lapsed": 4, "buyers": 0, "cart": 0, "prospects": 2}


async def look_at(page: Path) -> None:
    """Open the page in Chromium at both widths and in both themes, and keep the pictures."""
    with chromium(page.parent) as port:
        async with open_tab(port) as tab:
            await tab.open(page)
            for width in (360, 1280):
                for theme in ("light", "dark"):
                    await tab.show(width, theme)
                    assert await tab.overflowing() == [], (width, theme)
                    assert await tab.low_contrasts() == [], (width, theme)
                    page.with_name(f"page-{width}-{theme}.png").write_bytes(await tab.screenshot())
            assert tab.requests == [page.as_uri()]
            assert tab.complaints == []


async def assert_balanced(night: Night) -> None:
    """Check that the accounts of every run in the ledgers balance."""
    status, runs = await night.ask("runs")
    assert status == 0
    assert len(runs) >= 15
    for accounts in runs:
        run, rows = accounts["run"], accounts["rows"]
        is_mirror = accounts["action"] == "mirror"
        names = ("add", "remove", "resend") if is_mirror else ("uids",)
        first, *others = (accounts[name] for name in names)
        left = ("blank", "invalid", "excluded", "undecided", "duplicate", "unchanged")
        assert rows["read"] == sum(rows.get(each, 0) for each in left) + first["planned"], run
        for each in (first, *others, accounts["batches"]):
            parts = ("accepted", "rejected", "unconfirmed", "pending")
            assert each["planned"] == sum(each[part] for part in parts), run


def assert_ceiling_kept(night: Night) -> None:
    """Check each window of each workspace by our own log."""
    ledgers = night.cli.ledger_files()
    assert len(ledgers) == 2
    for path in ledgers:
        with closing(sqlite3.connect(path)) as ledger:
            found = ledger.execute(
                "SELECT sent_boot_ns FROM attempt WHERE sent_boot_ns IS NOT NULL ORDER BY 1"
            )
            sent = [boot_ns / 1e9 for (boot_ns,) in found]
        windows = zip(sent, sent[REQUESTS:], strict=False)
        assert all(later - sooner >= PER_SECONDS for sooner, later in windows)
