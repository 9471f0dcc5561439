"""State folders that cannot take a ledger, and ledgers that cannot be used."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from emulated_api import Emulator
from nightly import Night, assert_balanced


def test_a_full_disk_loses_nothing(night: Night, api: Emulator) -> None:
    planned = night.write("export.txt", 3_000)
    full = night.spawn_push("export.txt", largest_file_kib=200)
    assert full.status == 75, full.stderr
    assert "make room" in full.stderr
    assert 0 < len(api.members()) < len(planned)
    last = night.push("export.txt")
    assert last.status == 0
    assert last.document["uids"]["accepted"] == len(planned)
    assert_balanced(last.document)
    assert api.members() == planned


def test_a_disk_that_is_full_from_the_start_sends_nothing(night: Night, api: Emulator) -> None:
    planned = night.write("export.txt")
    full = night.spawn_push("export.txt", largest_file_kib=8)
    assert full.status == 75, full.stderr
    assert full.document["exit_status"] == 75
    assert api.received() == 0
    assert night.push("export.txt").status == 0
    assert api.members() == planned


def test_a_state_folder_that_cannot_be_written_is_told(night: Night, api: Emulator) -> None:
    night.write("export.txt", 3)
    (night.folder / "state").write_text("in the way")
    ended = night.push("export.txt")
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
    night: Night, api: Emulator, command: str, spoil: object
) -> None:
    night.write("export.txt", 3)
    assert night.push("export.txt").status == 0
    received = api.received()
    [path] = night.ledger_files()
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes()
    ended = night.push("export.txt") if command == "push" else night.run("runs", "--json")
    assert ended.status == 2, ended.stderr
    assert "ledger" in ended.stderr
    assert "hint:" in ended.stderr
    assert ended.document["status"] == "failed"
    assert path.read_bytes() == before
    assert api.received() == received
