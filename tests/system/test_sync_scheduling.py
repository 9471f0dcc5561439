"""Cohorts of a sync that wait: for an export that hangs, for a marker, or for another process."""

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any

import pytest
from clean_room import API_KEY, until
from configured_sync import by_key, cohort, configure, statuses, sync, two_workspaces
from emulated_api import Emulator, emulator
from nightly import CommandLine

from engine.ledger.locks import cohort_lock
from engine.model.cohort import CohortKey
from engine.runs import configured_export
from engine.runs.interruptible import compute_or_stop
from engine.sync import lending
from engine.sync.ranked_slots import RankedSlots, Slot


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_cohorts_whose_exports_hang_do_not_stop_the_others(
    cli: CommandLine, api: Emulator, held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One half of the pipes has no writer, the other half has one that stops in the middle."""
    monkeypatch.setattr(lending, "LENT_AFTER_SECONDS", 0.05)
    cohorts = {}
    for number in range(8):
        name = f"pipe-{number}.txt"
        os.mkfifo(cli.folder / name)
        cohorts[f"hangs-{number}"] = cohort(
            name, mode="mirror" if number % 4 < 2 else "add", priority=1
        )
        if number % 2:
            pipe = os.open(cli.folder / name, os.O_RDWR)
            held.callback(os.close, pipe)
            os.write(pipe, b"".join(b"uid-%d-%d\n" % (number, each) for each in range(2_000)))
    wanted = cli.write("vip.txt", 20)
    configure(
        cli,
        cohorts | {"vip": cohort("vip.txt")},
        limits={"requests": 300, "payload_bytes": 100_000},
    )
    ended = sync(cli, "--max-requests", "1")
    assert ended.status == 75
    assert api.members("vip") == wanted
    assert "hangs-0: it waits for its export; meanwhile another cohort may begin" in ended.log


def test_cohorts_that_another_process_holds_do_not_stop_the_others(
    cli: CommandLine, api: Emulator, held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "LENT_AFTER_SECONDS", 0.05)
    wanted = cli.write("vip.txt", 20)
    shop = {"partner": "shop"}
    configure(cli, {"vip": cohort("vip.txt")}, workspace=shop)
    assert sync(cli).status == 0
    [ledger] = cli.ledger_files()
    cohorts = {f"held-{number}": cohort("vip.txt", priority=1) for number in range(5)}
    for key in cohorts:
        lock = cohort_lock(ledger.parent, CohortKey("shop", key))
        assert lock.try_acquire()
        held.callback(lock.release)
    wanted |= cli.write("vip.txt", 21)
    configure(cli, cohorts | {"vip": cohort("vip.txt")}, workspace=shop)
    ended = sync(cli, "--wait", "3600", "--max-requests", "1")
    assert ended.status == 75
    assert api.members("vip") == wanted
    refused = sync(cli)
    assert statuses(refused) == dict.fromkeys(cohorts, ("failed", 75)) | {"vip": ("finished", 0)}
    assert "is in use by process" in by_key(refused)["held-0"]["reason"]


def test_two_names_of_one_workspace_are_synced_side_by_side_under_one_ceiling(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = configured_export.wait_or_stop
    monkeypatch.setattr(configured_export, "wait_or_stop", lambda _, switch: wait(0.01, switch))
    two_workspaces(cli)
    (cli.folder / "us.key").write_text(API_KEY)
    (cli.folder / "us.key").chmod(0o600)
    text = (cli.folder / "config.toml").read_text()
    text = text.replace("requests = 300\nper_seconds = 2.0", "requests = 4\nper_seconds = 0.25")
    text = text.replace("[cohorts.a]", '[cohorts.a]\nwait_for = "b-is-done"')
    text += '\n[cohorts.c]\nname = "c"\nsource = "a.txt"\nworkspace = "eu"\n'
    text += '[cohorts.b2]\nname = "b2"\nsource = "b.txt"\nworkspace = "us"\n'
    text = text.replace("[cohorts.b]", '[cohorts.b]\nafter = ["touch", "b-is-done"]')
    (cli.folder / "config.toml").write_text(text + '[metrics]\ntextfile = "sync.prom"\n')
    ended = sync(cli)
    assert statuses(ended) == dict.fromkeys(("a", "b", "c", "b2"), ("finished", 0))
    assert {len(api.members(key)) for key in ("a", "b", "c", "b2")} == {200}
    assert 0.5 < ended.document["ceiling_use"] <= 1
    [path] = cli.ledger_files()
    with closing(sqlite3.connect(path)) as ledger:
        sent = [each for (each,) in ledger.execute("SELECT sent_boot_ns FROM attempt ORDER BY 1")]
    assert len(sent) == ended.document["requests"] == api.received() == 12
    assert all(later - sooner >= 0.25e9 for sooner, later in zip(sent, sent[4:], strict=False))
    assert sync(cli).status == 0  # The counts of both names are in one ledger.
    metrics = (cli.folder / "sync.prom").read_text().splitlines()
    for name in ("eu", "us"):
        prefix = f'cohortsync_requests_total{{outcome="accepted",workspace="{name}"}} '
        [value] = [float(line[len(prefix) :]) for line in metrics if line.startswith(prefix)]
        assert value == len(sent) / 2


@pytest.mark.parametrize("command", [["sync"], ["push", "--cohort", "a"]])
def test_a_sync_beside_another_process(cli: CommandLine, api: Emulator, command: list[str]) -> None:
    """Without a wait it is refused with 75; with one, it finds that the other has completed it."""
    uids = cli.write("a.txt", 2_000)
    configure(cli, {"a": cohort("a.txt", mode="add")}, limits={"requests": 20, "per_seconds": 0.6})
    running = cli.start(*command, "--json")
    until(lambda: api.received() > 1, "requests arrive")
    refused = sync(cli)
    assert (refused.status, statuses(refused)) == (75, {"a": ("failed", 75)})
    assert "in use by process" in by_key(refused)["a"]["reason"]
    assert "--wait" in by_key(refused)["a"]["hint"]
    waited = sync(cli, "--wait", "60")
    assert statuses(waited) == {"a": ("up_to_date", 0)}
    assert running.wait().status == 0
    assert api.members("a") == uids
    assert api.report()["requests"]["accepted"] == api.received()


class Counted(RankedSlots):
    """Slots that say in which order they were given, and how many holders there were at most."""

    def __init__(self, slots: int, *, lendable: int = 0) -> None:
        super().__init__(slots, lendable=lendable)
        self.ranks: list[int] = []
        MADE.append(self)

    @asynccontextmanager
    async def held(self, rank: int) -> AsyncIterator[Slot]:
        async with super().held(rank) as slot:
            self.ranks.append(rank)
            if len(self.ranks) == 1:
                await self.all_wait()
            yield slot

    async def all_wait(self) -> None:
        """Let the first holder wait until all others wait for it, if they are to come at once."""
        async with asyncio.timeout(60):
            while self is MADE[0] and len(self._waiting) < 8:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)


MADE: list[Counted] = []


def test_the_workspaces_of_a_process_plan_and_make_snapshots_one_after_the_other(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory for plans bounds the whole process, and each workspace has its turn."""
    names = ("a", "b", "c")
    monkeypatch.setattr("engine.sync.context.RankedSlots", Counted)
    MADE.clear()
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for place in ("engine.runs.planner", "engine.runs.context"):
        monkeypatch.setattr(f"{place}.compute_or_stop", counting(place, under_way, most))
    (folder := cli.folder / "three").mkdir()
    flags = [each for name in names for each in ("--workspace", f"{name}:{API_KEY}")]
    with emulator(folder, *flags) as api:
        tables = {
            f"workspaces.{name}": {"id": name, "endpoint": api.url, "partner": "shop"}
            for name in names
        }
        cohorts = {
            f"cohorts.{name}{number}": cohort("uids.txt", workspace=name)
            for name in names
            for number in range(3)
        }
        wanted = cli.write("uids.txt", 20)
        cli.variables |= {f"MOENGAGE_API_KEY_{name.upper()}": API_KEY for name in names}
        lines = [
            line
            for title, table in (tables | cohorts).items()
            for line in (f"[{title}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items()))
        ]
        (cli.folder / "config.toml").write_text("\n".join(lines))
        ended = sync(cli)
        assert set(statuses(ended).values()) == {("finished", 0)}
        assert api.members("a0", "?workspace=a") == wanted
    planning, computing = MADE
    assert sorted(planning.ranks) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert planning.ranks[1:] == sorted(planning.ranks[1:])
    assert len(computing.ranks) == 9
    assert most == {"engine.runs.planner": 1, "engine.runs.context": 1}


def counting(place: str, under_way: Counter[str], most: Counter[str]) -> Callable[..., Any]:
    """Return a function that computes, and counts how many do so at the same time."""

    async def compute(*arguments: Any, **named: Any) -> object:  # noqa: ANN401 - passed on
        under_way[place] += 1
        most[place] = max(most[place], under_way[place])
        try:
            for _ in range(20):  # Others that may begin have begun.
                await asyncio.sleep(0)
            return await compute_or_stop(*arguments, **named)
        finally:
            under_way[place] -= 1

    return compute
