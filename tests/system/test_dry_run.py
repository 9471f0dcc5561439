"""`--dry-run` reads and packs everything, opens no connection and writes nothing."""

import socket
from collections.abc import Iterator

import pytest
from emulated_api import Emulator
from nightly import TARGET, CommandLine, assert_balanced


@pytest.fixture
def listener(cli: CommandLine) -> Iterator[socket.socket]:
    """Configure a target that notices every connection, and return it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        cli.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        cli.configure()
        yield server


def test_nothing_is_opened_and_nothing_written(cli: CommandLine, listener: socket.socket) -> None:
    cli.write("export.txt")
    before = sorted(cli.folder.rglob("*"))
    ended = cli.push("export.txt", "--dry-run")
    assert ended.status == 0
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert sorted(cli.folder.rglob("*")) == before


def test_the_accounts_are_those_of_the_real_run(cli: CommandLine, api: Emulator) -> None:
    rows = b"uid,x\n" + b"".join(b"uid-%d,1\n" % number for number in range(500))
    (cli.folder / "export.csv").write_bytes(rows + b",1\nbad\n" + b"u" * 3_000 + b",1\n")
    dry = cli.push("export.csv", "--column", "uid", "--dry-run")
    real = cli.push("export.csv", "--column", "uid")
    assert dry.status == real.status == 1
    planned, accounts = dry.document, real.document
    assert planned.keys() == accounts.keys()
    assert (planned["run"], planned["status"]) == (None, "dry_run")
    expected = {"read": 503, "blank": 1, "invalid": 1, "excluded": 0}
    assert planned["rows"] == accounts["rows"] == expected
    assert planned["uids"]["pending"] == planned["uids"]["planned"] == accounts["uids"]["planned"]
    assert planned["batches"]["pending"] == accounts["batches"]["planned"]
    assert planned["payload_fill"] == pytest.approx(accounts["payload_fill"])
    assert planned["requests"]["sent"] == planned["bytes_sent"] == 0
    assert planned["target"] == accounts["target"]
    assert_balanced(planned)
    assert api.received() == accounts["requests"]["sent"]


def test_an_export_without_a_uid_is_reported_in_the_accounts(
    cli: CommandLine, api: Emulator
) -> None:
    (cli.folder / "export.csv").write_bytes(b"uid,x\n,1\nbad\n,2\n")
    dry = cli.push("export.csv", "--column", "uid", "--dry-run")
    real = cli.push("export.csv", "--column", "uid")
    assert dry.status == real.status == 2
    assert (
        dry.document["rows"]
        == real.document["rows"]
        == {"read": 3, "blank": 2, "invalid": 1, "excluded": 0}
    )
    assert dry.document["reason"] == real.document["reason"]
    assert (dry.document["status"], dry.document["exit_status"]) == ("dry_run", 2)
    assert api.received() == 0


def test_no_credentials_are_needed(cli: CommandLine, listener: socket.socket) -> None:
    del listener
    cli.write("export.txt")
    cli.variables["MOENGAGE_API_KEY"] = ""
    ended = cli.run("push", "export.txt", *TARGET, "--dry-run")
    assert ended.status == 0
    assert "target=" in ended.stderr.splitlines()[0]
    assert ended.stdout.endswith("Plan: 300 to add; 6 requests, done in 1 s.\n")
    for of_sending in ("accepted", "ceiling", "payloads"):
        assert of_sending not in ended.stdout


def test_an_unfinished_run_is_left_as_it_is(cli: CommandLine) -> None:
    cli.write("export.txt")
    cli.url = "http://127.0.0.1:9"
    cli.configure()
    assert cli.push("export.txt").status == 75
    before = cli.query("SELECT * FROM run JOIN sitting USING (run)")
    assert cli.push("export.txt", "--dry-run").status == 0
    assert cli.query("SELECT * FROM run JOIN sitting USING (run)") == before
