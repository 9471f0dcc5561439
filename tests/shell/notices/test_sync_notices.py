"""All notices of a sync together, against receivers and a ledger on loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from ledger_entries import HandClock
from receiver import Receiver

from engine.delivery.events import Answered
from engine.delivery.outcome import Accepted
from engine.delivery.stop import StopSwitch
from engine.errors import ConfigError, ExitStatus, LedgerError
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sync_records import SyncRecord
from engine.notices import notifier
from engine.notices.follow_up import FollowUp
from engine.notices.ports import NoticeContext
from engine.notices.settings import MetricsSettings, NotifySettings, PingSettings
from engine.notices.sync_notices import NoticeSettings, SyncNotices
from engine.report.sync_result import CohortResult, SyncResult
from synced import COHORT, SECOND, ended, pushed, synced

LAPSED = replace(COHORT, key="lapsed", name="Lapsed", cohort_id="lapsed-id")


class Night:
    """A sync with all notices, and what came of it."""

    def __init__(self, folder: Path, ledger: Ledger | None, receiver: Receiver) -> None:
        self.textfile = folder / "cohortsync.prom"
        self.notes: list[str] = []
        self.settings = NoticeSettings(
            label="config.toml",
            metrics=MetricsSettings(
                textfile=str(self.textfile), push_url=f"{receiver.url}/S3CRET/push"
            ),
            notify=NotifySettings(urls=(f"json://{receiver.address}/S3CRET/json",)),
            pings=PingSettings(url=f"{receiver.url}/S3CRET/ping", timeout_seconds=1),
        )
        self.clock = HandClock()
        self._ledger = ledger

    def silence(self) -> None:
        """Notify nobody: each start of Apprise takes half a second."""
        self.settings = replace(self.settings, notify=NotifySettings())

    @asynccontextmanager
    async def open_ledger(self, _: str) -> AsyncIterator[Ledger]:
        if self._ledger is None:
            raise LedgerError("ledger.sqlite is corrupt")
        yield self._ledger

    @property
    def context(self) -> NoticeContext:
        return NoticeContext(self.open_ledger, self.clock, self.note, StopSwitch())

    async def sync(self, *results: CohortResult, name: str = "sync-1") -> SyncResult:
        notices = SyncNotices(self.settings, [COHORT, LAPSED], self.context)
        async with notices:
            await notices.begin(name, self.clock.utc_ns)
            ended_results = []
            for each in results:
                notices.cohort_begins(each.cohort)
                notices.observe(each.cohort, Answered(1, 1, Accepted(), 0.1))
                ended_results.append(await notices.cohort_ended(each))
                await self.record(name, ended_results[-1])
            result = synced(*ended_results, at_utc_ns=self.clock.utc_ns)
            return await notices.end(replace(result, sync=name))

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def record(self, name: str, result: CohortResult) -> None:
        if self._ledger is not None:
            now = self.clock.utc_ns
            record = SyncRecord(name, result.cohort, "P", result.cohort_id, now, "2026-11-27")
            status = int(result.exit_status)
            await self._ledger.syncs.enter(
                [replace(record, finished_utc_ns=now, status="x", exit_status=status)]
            )

    def samples(self) -> dict[str, float]:
        lines = self.textfile.read_text(encoding="utf-8").splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


@pytest.fixture
def night(tmp_path: Path, ledger: Ledger, receiver: Receiver) -> Night:
    return Night(tmp_path, ledger, receiver)


async def test_a_sync_tells_all_that_is_configured(night: Night, receiver: Receiver) -> None:
    result = await night.sync(pushed(10), ended(ExitStatus.GUARDED, key="lapsed"))
    assert result.exit_status is ExitStatus.GUARDED
    assert night.notes == []
    paths = [path.removeprefix("/S3CRET") for _, path, _ in receiver.requests]
    assert paths == ["/ping/start", "/json", "/ping/4", "/push/metrics/job/cohortsync"]
    message = json.loads(receiver.requests[1][2])
    assert message["title"] == "cohortsync: Lapsed needs attention"
    assert night.textfile.read_text(encoding="utf-8") == receiver.requests[3][2]
    assert night.samples()["cohortsync_sync_exit_status"] == 4


async def test_a_sync_of_one_cohort_keeps_the_others_in_the_textfile(night: Night) -> None:
    night.silence()
    await night.sync(ended(ExitStatus.ACCEPTED), ended(ExitStatus.ACCEPTED, key="lapsed"))
    first = night.clock.utc_ns
    night.clock.advance(3600)
    await night.sync(ended(ExitStatus.USAGE), name="sync-2")
    name = 'cohortsync_cohort_last_success_timestamp_seconds{cohort="%s",workspace="default"}'
    found = night.samples()
    assert found[name % "vip"] == found[name % "lapsed"] == first / SECOND
    assert found['cohortsync_requests_total{outcome="accepted",workspace="default"}'] == 3
    assert found['cohortsync_syncs_total{exit_status="0"}'] == 1


async def test_receivers_that_fail_are_told_and_change_nothing(
    night: Night, receiver: Receiver
) -> None:
    receiver.status = 500
    result = await night.sync(ended(ExitStatus.GUARDED))
    assert result.exit_status is ExitStatus.GUARDED
    kinds = [each.partition(":")[0] for each in night.notes]
    assert kinds == ["ping", "notification", "ping", "push"]
    assert "S3CRET" not in "".join(night.notes)
    failed = 'cohortsync_notice_failures_total{kind="%s"}'
    assert night.samples()[failed % "ping"] == 2
    assert night.samples()[failed % "notification"] == 1


async def test_a_receiver_that_is_down_is_told(
    night: Night, unused_tcp_port: int, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/S3CRET"
    night.settings = replace(
        night.settings,
        pings=PingSettings(url=url),
        metrics=MetricsSettings(push_url=url, textfile=str(tmp_path / "no folder" / "x.prom")),
        notify=NotifySettings(urls=(f"json://127.0.0.1:{unused_tcp_port}/S3CRET",)),
    )
    await night.sync(ended(ExitStatus.USAGE))
    kinds = [each.partition(":")[0] for each in night.notes]
    assert kinds == ["ping", "notification", "ping", "textfile", "push"]
    assert "S3CRET" not in "".join(night.notes)


async def test_without_a_ledger_everything_is_still_told(
    tmp_path: Path, receiver: Receiver
) -> None:
    night = Night(tmp_path, None, receiver)
    result = await night.sync(ended(ExitStatus.GUARDED))
    assert result.exit_status is ExitStatus.GUARDED
    assert len(receiver.requests) == 4
    assert night.samples()["cohortsync_sync_exit_status"] == 4
    kinds = {each.partition(":")[0] for each in night.notes}
    assert kinds == {"history", "notification", "metrics"}


async def test_a_bug_in_a_notice_is_told_and_hides_nothing(
    night: Night, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("S3CRET")

    monkeypatch.setattr(notifier, "message_of", broken)
    monkeypatch.setattr("engine.notices.pings.ping_text", broken)
    result = await night.sync(ended(ExitStatus.ACCEPTED))
    assert result.exit_status is ExitStatus.ACCEPTED
    assert night.notes == [
        "notification: notifications failed by a bug, RuntimeError",
        "ping: a bug, RuntimeError",
    ]
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("script", "status", "reason"),
    [
        ("exit 0", ExitStatus.ACCEPTED, None),
        ("exit 5", ExitStatus.INCOMPLETE, "complete, but the `after` command ended with exit"),
    ],
)
async def test_a_command_follows_a_complete_sync(
    night: Night, tmp_path: Path, script: str, status: ExitStatus, reason: str | None
) -> None:
    command = ("sh", "-c", f'echo "$COHORTSYNC_COHORTS" >> called; {script}')
    night.silence()
    night.settings = replace(night.settings, after_sync=FollowUp(command, folder=tmp_path))
    await night.sync(ended(ExitStatus.GUARDED))
    assert not (tmp_path / "called").exists()
    result = await night.sync(ended(ExitStatus.ACCEPTED), name="sync-2")
    assert result.exit_status is status
    assert result.to_dict()["exit_status"] == status
    assert (result.reason or "").startswith(reason or "")
    assert (result.reason is None) is (reason is None)
    assert (tmp_path / "called").read_text(encoding="utf-8") == "vip\n"


async def test_the_port_serves_what_is_known_while_the_sync_runs(
    night: Night, unused_tcp_port: int
) -> None:
    night.silence()
    await night.sync(ended(ExitStatus.ACCEPTED, key="lapsed"))
    night.settings = replace(night.settings, metrics=MetricsSettings(port=unused_tcp_port))
    notices = SyncNotices(night.settings, [COHORT, LAPSED], night.context)
    url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
    async with notices, aiohttp.ClientSession() as session:
        await notices.begin("sync-2", night.clock.utc_ns)
        await notices.cohort_ended(ended(ExitStatus.GUARDED))
        async with session.get(url) as response:
            text = await response.text()
    of = 'cohortsync_cohort_exit_status{cohort="%s",workspace="default"}'
    assert f"{of % 'lapsed'} 0.0" in text
    assert f"{of % 'vip'} 4.0" in text
    assert "cohortsync_sync_running 1.0" in text
    assert night.notes == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pings": PingSettings(url="http://host/S3CRET")}, "`pings.url` should begin with https"),
        ({"pings": PingSettings(url="file:/not/there")}, "`pings.url` names a file that cannot"),
        ({"metrics": MetricsSettings(push_url="S3CRET")}, "`metrics.push_url` should begin with"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_at_the_start(
    night: Night, settings: dict[str, PingSettings | MetricsSettings], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        SyncNotices(
            replace(night.settings, **settings),  # type: ignore[arg-type]
            [COHORT],
            night.context,
        )
    assert caught.value.message.startswith(f"config.toml: {says}")
    assert "S3CRET" not in caught.value.message


async def test_no_notice_that_is_not_configured(night: Night, receiver: Receiver) -> None:
    night.settings = NoticeSettings(label="config.toml")
    await night.sync(ended(ExitStatus.GUARDED))
    assert receiver.requests == []
    assert night.notes == []
