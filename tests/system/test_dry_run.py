"""`--dry-run` reads and packs everything, opens no connection and writes nothing."""

import socket
from collections.abc import Iterator

import pytest
from emulated_api import Emulator
from nightly import TARGET, Night, assert_balanced


@pytest.fixture
def listener(night: Night) -> Iterator[socket.socket]:
    """Configure a target that notices every connection, and return it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        night.url = f"http://127.0.0.1:{server.getsockname()[1]}"
        night.configure()
        yield server


def test_nothing_is_opened_and_nothing_written(night: Night, listener: socket.socket) -> None:
    night.write("export.txt")
    before = sorted(night.folder.rglob("*"))
    ended = night.push("export.txt", "--dry-run")
    assert ended.status == 0
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert sorted(night.folder.rglob("*")) == before


def test_the_books_are_those_of_the_real_run(night: Night, api: Emulator) -> None:
    rows = b"uid,x\n" + b"".join(b"uid-%d,1\n" % number for number in range(500))
    (night.folder / "export.csv").write_bytes(rows + b",1\nbad\n" + b"u" * 3_000 + b",1\n")
    dry = night.push("export.csv", "--column", "uid", "--dry-run")
    real = night.push("export.csv", "--column", "uid")
    assert dry.status == real.status == 1
    planned, books = dry.document, real.document
    assert planned.keys() == books.keys()
    assert (planned["run"], planned["status"]) == (None, "dry_run")
    assert (
        planned["rows"] == books["rows"] == {"read": 503, "blank": 1, "invalid": 1, "excluded": 0}
    )
    assert planned["uids"]["pending"] == planned["uids"]["planned"] == books["uids"]["planned"]
    assert planned["batches"]["pending"] == books["batches"]["planned"]
    assert planned["payload_fill"] == pytest.approx(books["payload_fill"])
    assert planned["requests"]["sent"] == planned["bytes_sent"] == 0
    assert planned["target"] == books["target"]
    assert_balanced(planned)
    assert api.received() == books["requests"]["sent"]


def test_an_export_without_a_uid_is_told_in_the_books(night: Night, api: Emulator) -> None:
    (night.folder / "export.csv").write_bytes(b"uid,x\n,1\nbad\n,2\n")
    dry = night.push("export.csv", "--column", "uid", "--dry-run")
    real = night.push("export.csv", "--column", "uid")
    assert dry.status == real.status == 2
    assert (
        dry.document["rows"]
        == real.document["rows"]
        == {"read": 3, "blank": 2, "invalid": 1, "excluded": 0}
    )
    assert dry.document["reason"] == real.document["reason"]
    assert (dry.document["status"], dry.document["exit_status"]) == ("dry_run", 2)
    assert api.received() == 0


def test_no_credentials_are_needed(night: Night, listener: socket.socket) -> None:
    del listener
    night.write("export.txt")
    night.variables["MOENGAGE_API_KEY"] = ""
    ended = night.run("push", "export.txt", *TARGET, "--dry-run")
    assert ended.status == 0
    assert "target=" in ended.stderr.splitlines()[0]
    assert ended.stdout.startswith("dry run, exit status 0\n")
    for of_requests in ("requests", "ceiling", "payloads"):
        assert of_requests not in ended.stdout


def test_an_unfinished_run_is_left_as_it_is(night: Night) -> None:
    night.write("export.txt")
    night.url = "http://127.0.0.1:9"
    night.configure()
    assert night.push("export.txt").status == 75
    before = night.query("SELECT * FROM run JOIN sitting USING (run)")
    assert night.push("export.txt", "--dry-run").status == 0
    assert night.query("SELECT * FROM run JOIN sitting USING (run)") == before
