"""Notifications by Apprise: who gets what, once, whatever happens to the receiver."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_entries import HandClock
from receiver import Receiver, time_is_up, until

from engine.errors import ConfigError, ExitStatus, LedgerError
from engine.ledger.sqlite.ledger import Ledger
from engine.notices import apprise_sender
from engine.notices.apprise_sender import Result, check_urls, send_messages
from engine.notices.messages import Message
from engine.notices.notifier import Notifier, Recipients
from engine.notices.ports import OpenLedger
from engine.notices.problems import CohortPast, NoticedCohort
from engine.notices.settings import NotifySettings
from synced import COHORT, SECOND, ended, pushed, synced

LAPSED = replace(COHORT, key="lapsed", name="Lapsed", cohort_id="lapsed-id", owner="growth")
VIP = replace(COHORT, owner="crm")
MESSAGE = Message("Title", "Body ✓", "failure")


def opener(ledger: Ledger) -> OpenLedger:
    @asynccontextmanager
    async def open_ledger(_: str) -> AsyncIterator[Ledger]:
        yield ledger

    return open_ledger


class Sent:
    """Plays the services: what was sent to which URL, and how it ends."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.result: Result = "ok"
        self.dies = False

    async def __call__(
        self, messages: Sequence[tuple[str, Message]], seconds: float
    ) -> list[Result]:
        del seconds
        self.messages += messages
        if self.dies and messages:
            raise asyncio.CancelledError
        return [self.result] * len(messages)


def notifier(
    ledger: Ledger,
    sent: Sent,
    cohorts: Sequence[NoticedCohort] = (VIP, LAPSED),
    settings: NotifySettings | None = None,
) -> Notifier:
    settings = settings or NotifySettings(
        urls=("all://",), owners={"crm": ("crm://", "crm2://"), "growth": ("growth://",)}
    )
    recipients = Recipients.read("config.toml", settings)
    return Notifier(recipients, cohorts, opener(ledger), UTC, send=sent)


async def test_one_message_a_recipient_routed_by_owner(ledger: Ledger) -> None:
    sent = Sent()
    result = synced(ended(ExitStatus.GUARDED), ended(ExitStatus.USAGE, key="lapsed"))
    assert await notifier(ledger, sent).notify(result, {}) == []
    titles = {url: message.title.removeprefix("cohortsync: ") for url, message in sent.messages}
    assert titles == {
        "all://": "2 cohorts need attention",
        "crm://": "VIP customers needs attention",
        "crm2://": "VIP customers needs attention",
        "growth://": "Lapsed needs attention",
    }
    assert len(sent.messages) == 4


async def test_a_state_is_told_once_and_its_end_too(ledger: Ledger) -> None:
    sent = Sent()
    told = []
    for status in (4, 4, 0, 0, 2, 3, 3, 0):
        sent.messages.clear()
        result = synced(ended(ExitStatus(status)))
        await notifier(ledger, sent, (COHORT,), NotifySettings(urls=("all://",))).notify(result, {})
        told.append([message.level for _, message in sent.messages])
    assert told == [["failure"], [], ["success"], [], ["failure"], ["failure"], [], ["success"]]


async def test_what_no_url_took_is_told_again_by_the_next_sync(ledger: Ledger) -> None:
    sent = Sent()
    sent.result = "failed"
    result = synced(ended(ExitStatus.GUARDED))
    failures = await notifier(ledger, sent).notify(result, {})
    assert failures == [
        "the message to URL 1 of `notify.urls` was not delivered",
        "the message to URL 1 of `notify.owners.crm` was not delivered",
        "the message to URL 2 of `notify.owners.crm` was not delivered",
    ]
    sent.result = "ok"
    for expected in (6, 6):
        assert await notifier(ledger, sent).notify(result, {}) == []
        assert len(sent.messages) == expected


async def test_a_sync_of_one_cohort_leaves_the_state_of_the_others(ledger: Ledger) -> None:
    sent = Sent()
    both = synced(ended(ExitStatus.GUARDED), ended(ExitStatus.GUARDED, key="lapsed"))
    await notifier(ledger, sent).notify(both, {})
    sent.messages.clear()
    await notifier(ledger, sent).notify(synced(ended(ExitStatus.ACCEPTED)), {})
    assert {message.title for _, message in sent.messages} == {
        "cohortsync: VIP customers has recovered"
    }
    sent.messages.clear()
    await notifier(ledger, sent).notify(both, {})
    assert {url for url, _ in sent.messages} == {"all://", "crm://", "crm2://"}


async def test_a_cohort_is_overdue_also_in_a_sync_without_it(ledger: Ledger) -> None:
    sent = Sent()
    daily = replace(LAPSED, expect_every=timedelta(days=1))
    result = synced(ended(ExitStatus.ACCEPTED))
    now = result.finished_utc_ns
    for ago, level in ((2, "failure"), (3, None), (0, "success")):
        sent.messages.clear()
        past = CohortPast(last_success_utc_ns=now - ago * 86_400 * SECOND)
        await notifier(ledger, sent, (VIP, daily)).notify(result, {"lapsed": past})
        assert {message.level for _, message in sent.messages} == ({level} if level else set())


async def test_without_its_ledger_a_cohort_is_told_each_time(ledger: Ledger) -> None:
    sent = Sent()

    @asynccontextmanager
    async def broken(_: str) -> AsyncIterator[Ledger]:
        raise LedgerError("ledger.sqlite is corrupt")
        yield ledger

    recipients = Recipients.read("config.toml", NotifySettings(urls=("all://",)))
    for _ in range(2):
        alone = Notifier(recipients, (COHORT,), broken, UTC, send=sent)
        [failure] = await alone.notify(synced(ended(ExitStatus.USAGE)), {})
        assert "cannot be recorded: ledger.sqlite is corrupt" in failure
    assert len(sent.messages) == 2


OUTCOMES = st.sampled_from(["ok", "failed", "killed"])
SYNCS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 75]), OUTCOMES), max_size=10)


@given(SYNCS)
def test_each_change_is_told_once_and_once_more_for_each_kill(
    tmp_path_factory: pytest.TempPathFactory, syncs: list[tuple[int, str]]
) -> None:
    """A kill comes between the sending and its record."""

    async def run() -> None:
        folder = tmp_path_factory.mktemp("ledger")
        ledger = await Ledger.open(folder / "ledger.sqlite", HandClock())
        known, unrecorded = 0, 0
        try:
            for status, outcome in syncs:
                sent = Sent()
                sent.result = "failed" if outcome == "failed" else "ok"
                sent.dies = outcome == "killed"
                settings = NotifySettings(urls=("all://",))
                try:
                    await notifier(ledger, sent, (COHORT,), settings).notify(
                        synced(ended(ExitStatus(status))), {}
                    )
                except asyncio.CancelledError:
                    unrecorded += 1
                assert len(sent.messages) == (status != known)
                if outcome == "ok":
                    known = status
        finally:
            await ledger.close()

    asyncio.run(run())


def test_a_file_of_urls_that_is_not_there_is_an_error_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"`notify\.urls` names a file that cannot be read"):
        Recipients.read("config.toml", NotifySettings(urls=("file:/not/there",)))


def test_urls_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# on call\njson://one/S3CRET\n\n  json://two\n", encoding="utf-8")
    recipients = Recipients.read("config.toml", NotifySettings(urls=(f"file:{file}",)))
    assert recipients.urls == {"": ["json://one/S3CRET", "json://two"]}
    assert "S3CRET" not in repr(recipients)


def test_a_missing_extra_is_one_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise_sender, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        Recipients.read("config.toml", NotifySettings(urls=("json://h",)))
    assert "Apprise" in caught.value.message
    assert "cohortsync[notify]" in (caught.value.hint or "")
    assert not Recipients.read("config.toml", NotifySettings()).urls


async def test_a_url_that_no_service_takes_is_told_without_it() -> None:
    settings = NotifySettings(urls=("json://host/S3CRET", "nonsense://S3CRET"))
    recipients = Recipients.read("config.toml", settings)
    with pytest.raises(ConfigError) as caught:
        await recipients.check()
    assert caught.value.message == "config.toml: `notify.urls`: no service takes URL 2"


async def test_apprise_delivers_the_message_and_nothing_is_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"json://user:S3CRET@{receiver.address}/hook"
    assert await send_messages([(url, MESSAGE)], 30) == ["ok"]
    [(method, path, body)] = receiver.requests
    assert (method, path) == ("POST", "/hook")
    content = json.loads(body)
    assert (content["title"], content["message"]) == (MESSAGE.title, MESSAGE.body)
    assert content["type"] == "failure"
    assert "S3CRET" not in caplog.text
    assert capfd.readouterr() == ("", "")


async def test_faults_of_receivers_are_results_and_do_not_delay_others(
    receiver: Receiver, unused_tcp_port: int
) -> None:
    receiver.status = 500
    urls = [
        f"json://{receiver.address}/S3CRET",
        f"json://127.0.0.1:{unused_tcp_port}/S3CRET",
        "nonsense://S3CRET",
    ]
    found = await send_messages([(url, MESSAGE) for url in urls], 30)
    assert found == ["failed", "failed", "invalid"]


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status = 302
    await send_messages([(f"json://{receiver.address}/hook", MESSAGE)], 30)
    assert [path for _, path, _ in receiver.requests] == ["/hook"]


async def test_a_slow_receiver_is_given_up(receiver: Receiver, time_limit: asyncio.Timeout) -> None:
    receiver.seconds = 60
    sending = asyncio.create_task(
        send_messages([(f"json://{receiver.address}/hook?rto=50", MESSAGE)], 30)
    )
    await until(lambda: receiver.requests)
    await time_is_up(time_limit)
    assert await sending == ["timeout"]


async def test_what_is_done_when_the_time_is_over_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, time_limit: asyncio.Timeout
) -> None:
    done, program = tmp_path / "done", tmp_path / "program.py"
    text = f"import pathlib, sys\nprint(1, 'ok', flush=True)\npathlib.Path({str(done)!r}).touch()\n"
    program.write_text(text + "sys.stdin.close()\nwhile True: input()\n", encoding="utf-8")
    program.write_text(text + "import signal\nsignal.pause()\n", encoding="utf-8")
    monkeypatch.setattr(apprise_sender, "_PROGRAM", program)
    checking = asyncio.create_task(check_urls(["json://h"] * 3, 30))
    await until(done.exists)
    for _ in range(10):  # What was written before the file is read in the meantime.
        await asyncio.sleep(0)
    await time_is_up(time_limit)
    assert await checking == ["timeout", "ok", "timeout"]


async def test_the_key_of_the_api_is_not_in_the_program_s_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    text = "import os\nprint(0, 'failed' if any('MOENGAGE' in x for x in os.environ) else 'ok')\n"
    program.write_text(text, encoding="utf-8")
    monkeypatch.setattr(apprise_sender, "_PROGRAM", program)
    monkeypatch.setenv("MOENGAGE_API_KEY", "S3CRET")
    monkeypatch.setenv("MOENGAGE_API_KEY_EU", "S3CRET")
    assert await check_urls(["json://h"], 30) == ["ok"]


async def test_a_program_that_breaks_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit(1)\n", encoding="utf-8")
    monkeypatch.setattr(apprise_sender, "_PROGRAM", program)
    assert await check_urls(["json://h", "json://h"], 30) == ["failed", "failed"]


async def test_no_uid_of_a_run_is_in_a_message(ledger: Ledger) -> None:
    sent = Sent()
    result = synced(pushed(1000, rejected=1, status=ExitStatus.PARTIAL))
    await notifier(ledger, sent).notify(result, {})
    assert sent.messages[0][1].body.splitlines() == [
        "✗ VIP customers (vip): partly done: 1 uid rejected or invalid",
        "  next: cohortsync rejects run-1",
    ]
