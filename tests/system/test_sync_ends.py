"""How a sync, or a cohort of it, ends early by a time of the day."""

import asyncio

import pytest
from configured_sync import by_key, cohort, configure, statuses, sync
from emulated_api import Emulator
from nightly import CommandLine

from engine.delivery.stop import StopSwitch
from engine.sync.context import SyncContext

FEW_AT_ONCE = {"requests": 10, "per_seconds": 1.0}


@pytest.fixture
def after_three_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every time of the day come when three requests are sent."""

    async def stop_at(self: SyncContext, _: int, switch: StopSwitch, reason: str) -> None:
        while self.sent < 3:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0)
        switch.drain(reason)

    monkeypatch.setattr(SyncContext, "stop_at", stop_at)


@pytest.mark.usefixtures("after_three_requests")
def test_a_cohort_is_cut_at_its_deadline_and_the_others_are_completed(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vip, news = cli.write("vip.txt", 2_000), cli.write("news.txt", 300)
    cohorts = {
        "vip": cohort("vip.txt", mode="add", deadline="06:00", priority=1),
        "news": cohort("news.txt"),
    }
    configure(cli, cohorts, limits=FEW_AT_ONCE, sync={"on_late": "cut"})
    ended = sync(cli)
    assert statuses(ended) == {"vip": ("incomplete", 75), "news": ("finished", 0)}
    assert by_key(ended)["vip"]["reason"] == "its deadline has passed"
    assert api.members("news") == news
    assert len(api.members("vip")) < len(vip)
    monkeypatch.undo()
    configure(cli, cohorts, sync={"on_late": "cut"})
    assert statuses(sync(cli)) == {"vip": ("finished", 0), "news": ("up_to_date", 0)}
    assert api.members("vip") == vip


@pytest.mark.usefixtures("after_three_requests")
def test_a_sync_ends_at_a_time_of_the_day_and_the_next_goes_on(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = {key: cli.write(f"{key}.txt", 2_000) for key in "ab"}
    cohorts = {"a": cohort("a.txt"), "b": cohort("b.txt", mode="add")}
    configure(cli, cohorts, limits=FEW_AT_ONCE)
    ended = sync(cli, "--until", "23:59")
    assert ended.status == 75
    assert {each["reason"] for each in by_key(ended).values()} == {"it is 23:59"}
    assert api.received() < 20
    monkeypatch.undo()
    configure(cli, cohorts)
    assert sync(cli).status == 0
    assert {key: api.members(key) for key in uids} == uids
