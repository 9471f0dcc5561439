"""`runs`, `show` and `rejects`: what the ledger tells of the runs behind."""

import csv
import io
import json
from collections.abc import Callable
from subprocess import PIPE

import pytest
from emulated_api import Emulator
from nightly import TARGET, Night

EXPORT = b"uid,x\ngood,1\n,1\npoison,1\nbad,1,1\n" + b"".join(b"u%d,1\n" % n for n in range(100))
REJECTS = [
    ("blank", 2, "blank", None),
    ("rejected", 3, "400: InvalidAttributeError: uid: uid is not valid", "poison"),
    ("invalid", 4, "too many columns (3, not 2)", None),
]


@pytest.fixture
def run(night: Night, emulate: Callable[..., Emulator]) -> str:
    """Make a run with something to tell, and return its name."""
    night.url = emulate("--poison", "poison").url
    night.configure()
    (night.folder / "export.csv").write_bytes(EXPORT)
    ended = night.push("export.csv", "--column", "uid")
    assert ended.status == 1
    return str(ended.document["run"])


def test_runs_lists_the_latest_first(night: Night, run: str) -> None:
    again = night.push("export.csv", "--column", "uid").document["run"]
    listed = json.loads(night.run("runs", "--json").stdout)
    assert [books["run"] for books in listed] == [again, run]
    assert listed[0].keys() == night.push("export.csv", "--column", "uid").document.keys()
    lines = night.run("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [again, run]
    assert lines[1].split()[1:4] == ["finished", "1", "add"]


def test_show_tells_batches_and_attempts(night: Night, run: str) -> None:
    document = json.loads(night.run("show", run, "--json").stdout)
    attempts = document["attempts"]
    assert len(attempts) == document["requests"]["sent"] > 10
    assert [a["outcome"] for a in attempts].count("accepted") == document["requests"]["accepted"]
    rows = list(csv.DictReader(io.StringIO(night.run("show", run, "--csv").stdout)))
    assert [row["outcome"] for row in rows] == [attempt["outcome"] for attempt in attempts]
    text = night.run("show", run).stdout
    assert f"run {run}: finished, exit status 1" in text
    assert text.count(" rejected ") >= 1


def test_rejects_lists_every_uid_and_row_with_its_place(night: Night, run: str) -> None:
    listed = night.rejects(run)
    assert [(r["kind"], r["record"], r["reason"], r["uid"]) for r in listed] == REJECTS
    assert {reject["file"] for reject in listed} == {"export.csv"}
    assert [bool(reject["request_id"]) for reject in listed] == [False, True, False]
    rows = csv.DictReader(io.StringIO(night.run("rejects", run, "--csv").stdout))
    assert [(r["kind"], int(r["record"]), r["reason"], r["uid"] or None) for r in rows] == REJECTS


@pytest.mark.parametrize("command", [("show", "--csv"), ("show",), ("rejects",)])
def test_a_reader_that_stops_reading_is_no_error(
    night: Night, run: str, command: tuple[str, ...]
) -> None:
    running = night.start(command[0], run, *command[1:], stdout=PIPE)
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.wait().stderr == ""


def test_a_run_whose_books_nobody_reads_keeps_its_exit_status(night: Night, run: str) -> None:
    del run
    for form in ((), ("--json",)):
        command = ("push", "export.csv", *TARGET, "--column", "uid", *form)
        running = night.start(*command, stdout=PIPE)
        assert running.process.stdout is not None
        running.process.stdout.close()
        ended = running.wait()
        assert ended.status == 1, ended.stderr
        assert "BrokenPipe" not in ended.stderr


@pytest.mark.parametrize("command", ["show", "rejects"])
def test_an_unknown_run_is_told(night: Night, command: str) -> None:
    ended = night.run(command, "20260101-000000-0000")
    assert ended.status == 2
    assert ended.stderr.startswith("error: no run 20260101-000000-0000")
    assert ended.stdout == ""
