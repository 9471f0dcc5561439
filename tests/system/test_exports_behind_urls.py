"""Exports behind URLs, through the commands: credentials leave no trace, failures end well."""

from pathlib import Path

import pytest
from emulated_api import Emulator
from nightly import CommandLine, assert_balanced

from export_server import ExportServer

UIDS = [f"user{number:020}" for number in range(90_000)]
CSV = "".join(f"{uid}\n" for uid in ["uid", *UIDS]).encode()
TARGET = ("--column", "uid", "--cohort-id", "web", "--cohort-name", "Web", "--json")


def assert_nothing_kept(*texts: str, folder: Path) -> None:
    for text in (*texts, *(str(path) for path in folder.rglob("*"))):
        assert "SECRET" not in text
    for path in folder.rglob("*"):
        assert not path.is_file() or b"SECRET" not in path.read_bytes(), path


def test_a_push_of_a_url_that_fails_midway_goes_on_with_other_credentials(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.source.files.remote._WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("engine.source.files.remote._READ_AHEAD", 1 << 16)
    cli.configure(limits={"requests": 300, "per_seconds": 2.0, "payload_bytes": 100_000})
    server = ExportServer(CSV)
    with server.serving() as host:
        url = f"http://joe:SECRET@{host}/e.csv?X-Sig=SECRET"
        server.answers = dict.fromkeys(range(4, 99), 503)
        first = cli.run("push", url, *TARGET)
        assert (first.status, first.document["status"]) == (75, "incomplete")
        assert "answered 503" in first.document["reason"]
        assert 0 < first.document["uids"]["accepted"] < len(UIDS)
        assert_balanced(first.document)

        resumed = cli.run("resume", "--json")
        assert resumed.status == 2
        assert "credentials or signature are not kept" in resumed.stderr
        assert "the same `cohortsync push` command" in resumed.stderr

        server.answers = {}
        other = f"http://joe:SECRET2@{host}/e.csv?X-Sig=SECRET2"
        second = cli.run("push", other, *TARGET)
        assert (second.status, second.document["run"]) == (0, first.document["run"])
        assert second.document["uids"]["accepted"] == len(UIDS)
        assert api.members("web") == set(UIDS)
    shown = cli.run("show", first.document["run"], "--json")
    texts = [
        text for each in (first, resumed, second, shown) for text in (each.stdout, each.stderr)
    ]
    assert_nothing_kept(*texts, folder=cli.folder)


@pytest.mark.parametrize("command", ["push", "mirror"])
def test_an_export_that_changes_while_it_is_read_ends_with_2_and_accounts(
    cli: CommandLine, api: Emulator, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cli.folder / "young.csv"
    path.write_text("uid\na1\nus")

    def grow(*_: object) -> bool:
        path.write_text("uid\na1\nuser")
        return False

    monkeypatch.setattr("engine.source.files.change_detector.ChangeDetector._is_young", grow)
    ended = cli.run(command, str(path), *TARGET)
    assert (ended.status, ended.document["status"]) == (2, "source_failed")
    assert "changed while it was read" in ended.document["reason"]
    assert ended.document["rows"]["read"] == 0
    assert api.received() == 0


def test_a_url_that_cannot_be_read_is_one_line(cli: CommandLine) -> None:
    for url, status in (("http://joe:SECRET@127.0.0.1:9/e.csv", 75), ("ftp://127.0.0.1:9/x", 2)):
        ended = cli.run("push", url, *TARGET)
        assert ended.status == status
        assert ended.stderr.count("error: ") == ended.stderr.count("hint: ") == 1
        assert ended.document["hint"]
        assert_nothing_kept(ended.stdout, ended.stderr, folder=cli.folder)
