"""State folders that cannot take a ledger, and ledgers that cannot be used."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from emulated_api import Emulator
from nightly import CommandLine, assert_balanced


def test_a_full_disk_loses_nothing(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt", 3_000)
    full = cli.spawn_push("export.txt", largest_file_kib=200)
    assert full.status == 75, full.stderr
    assert "make room" in full.stderr
    assert 0 < len(api.members()) < len(planned)
    last = cli.push("export.txt")
    assert last.status == 0
    assert last.document["uids"]["accepted"] == len(planned)
    assert_balanced(last.document)
    assert api.members() == planned


def test_a_disk_that_is_full_from_the_start_sends_nothing(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt")
    full = cli.spawn_push("export.txt", largest_file_kib=8)
    assert full.status == 75, full.stderr
    assert full.document["exit_status"] == 75
    assert api.received() == 0
    assert cli.push("export.txt").status == 0
    assert api.members() == planned


def test_a_state_folder_that_cannot_be_written_is_reported(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt", 3)
    (cli.folder / "state").write_text("in the way")
    ended = cli.push("export.txt")
    assert ended.status == 2
    assert "state" in ended.document["reason"]
    assert "--state" in ended.document["hint"]
    assert api.received() == 0


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def torn(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA application_id = 7")


@pytest.mark.parametrize("spoil", [garbage, torn, newer, foreign])
@pytest.mark.parametrize("command", ["push", "runs"])
def test_a_ledger_that_cannot_be_used_is_left_alone(
    cli: CommandLine, api: Emulator, command: str, spoil: object
) -> None:
    cli.write("export.txt", 3)
    assert cli.push("export.txt").status == 0
    received = api.received()
    [path] = cli.ledger_files()
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes()
    ended = cli.push("export.txt") if command == "push" else cli.run("runs", "--json")
    assert ended.status == 2, ended.stderr
    assert "ledger" in ended.stderr
    assert "hint:" in ended.stderr
    assert ended.document["status"] == "failed"
    assert path.read_bytes() == before
    assert api.received() == received
