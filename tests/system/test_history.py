"""`runs`, `show` and `rejects`: what the ledger keeps of earlier runs."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest
from emulated_api import Emulator
from nightly import TARGET, CommandLine

EXPORT = b"uid,x\ngood,1\n,1\npoison,1\nbad,1,1\n" + b"".join(b"u%d,1\n" % n for n in range(100))
REJECTS = [
    ("blank", 2, "blank", None),
    ("rejected", 3, "400: InvalidAttributeError: uid: uid is not valid", "poison"),
    ("invalid", 4, "too many columns (3, not 2)", None),
]


@pytest.fixture
def run(cli: CommandLine, emulate: Callable[..., Emulator]) -> str:
    """Make a run with something to tell, and return its name."""
    cli.url = emulate("--poison", "poison").url
    cli.configure()
    (cli.folder / "export.csv").write_bytes(EXPORT)
    ended = cli.push("export.csv", "--column", "uid")
    assert ended.status == 1
    return str(ended.document["run"])


def test_runs_lists_the_latest_first(cli: CommandLine, run: str) -> None:
    again = cli.push("export.csv", "--column", "uid").document["run"]
    listed = json.loads(cli.run("runs", "--json").stdout)
    assert [accounts["run"] for accounts in listed] == [again, run]
    one = cli.push("export.csv", "--column", "uid").document
    assert listed[0].keys() == one.keys() - {"files", "files_total", "hint"}
    lines = cli.run("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines[3:]] == [again, run]
    assert lines[2].split()[1:3] == ["finished", "1"]


def test_show_shows_batches_and_attempts(cli: CommandLine, run: str) -> None:
    document = json.loads(cli.run("show", run, "--json").stdout)
    attempts = document["attempts"]
    assert len(attempts) == document["requests"]["sent"] > 10
    assert [a["outcome"] for a in attempts].count("accepted") == document["requests"]["accepted"]
    rows = list(csv.DictReader(io.StringIO(cli.run("show", run, "--csv").stdout)))
    assert [row["outcome"] for row in rows] == [attempt["outcome"] for attempt in attempts]
    short = cli.run("show", run).stdout
    text = cli.run("show", run, "--batches").stdout
    assert text.startswith(short)
    assert f"run       {run}: finished, exit status 1" in text
    assert text.count(" rejected ") >= 1


def test_rejects_lists_every_uid_and_row_with_its_place(cli: CommandLine, run: str) -> None:
    listed = cli.rejects(run)
    assert [(r["kind"], r["record"], r["reason"], r["uid"]) for r in listed] == REJECTS
    assert {reject["file"] for reject in listed} == {"export.csv"}
    assert [bool(reject["request_id"]) for reject in listed] == [False, True, False]
    rows = csv.DictReader(io.StringIO(cli.run("rejects", run, "--csv").stdout))
    assert [(r["kind"], int(r["record"]), r["reason"], r["uid"] or None) for r in rows] == REJECTS


@pytest.mark.parametrize("command", [("show", "--csv"), ("show", "--batches"), ("rejects",)])
def test_a_reader_that_stops_reading_is_no_error(
    cli: CommandLine, run: str, command: tuple[str, ...]
) -> None:
    running = cli.start(command[0], run, *command[1:], stdout=PIPE, anew=True)
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.wait().stderr == ""


def test_a_run_whose_accounts_nobody_reads_keeps_its_exit_status(
    cli: CommandLine, run: str
) -> None:
    del run
    for form in ((), ("--json",)):
        command = ("push", "export.csv", *TARGET, "--column", "uid", *form)
        running = cli.start(*command, stdout=PIPE, anew=not form)
        assert running.process.stdout is not None
        running.process.stdout.close()
        ended = running.wait()
        assert ended.status == 1, ended.stderr
        assert "BrokenPipe" not in ended.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_stdout_that_cannot_be_written_is_reported(
    cli: CommandLine, run: str, form: tuple[str, ...]
) -> None:
    commands = {
        ("push", "export.csv", *TARGET, "--column", "uid"): 1,  # how the run ended stands
        ("runs",): 75,
        ("show", run): 75,
        ("rejects", run): 75,
        ("check",): 75,
    }
    for command, status in commands.items():
        with Path("/dev/full").open("wb") as full:
            # The interpreter flushes stdout at its end, of any command in the same way.
            anew = not form and command[0] in {"push", "show"}
            ended = cli.start(*command, *form, stdout=full.fileno(), anew=anew).wait()
        assert ended.status == status, ended.stderr
        assert "error: stdout cannot be written: No space left on device\n" in ended.stderr
        assert "Exception ignored" not in ended.stderr


def test_rejects_are_listed_in_the_order_of_the_export(cli: CommandLine) -> None:
    for name in ("a", "b"):
        (cli.folder / f"{name}.txt").write_bytes(f"{name}\n".encode() * 9 + b"\xff\n\xff\n")
    accounts = cli.push("b.txt", "a.txt").document
    listed = cli.rejects(accounts["run"])
    places = [(each["file"], each["record"]) for each in listed]
    assert places == [("b.txt", 10), ("b.txt", 11), ("a.txt", 10), ("a.txt", 11)]
    assert cli.run("rejects", accounts["run"], "--json").stdout.count("\n") == 4


def test_a_narrow_terminal_breaks_no_table(cli: CommandLine, run: str) -> None:
    cli.variables["COLUMNS"] = "40"
    for command in (("runs",), ("show", run, "--batches")):
        lines = cli.run(*command).stdout.splitlines()
        assert all(line == line.rstrip() for line in lines)
    [first] = [number for number, line in enumerate(lines) if line.startswith("batch  parent")]
    heading, *attempts = lines[first:]
    assert len(attempts) > 10
    right = heading.index("uid_count") + len("uid_count")
    rows = [line for line in attempts if line[right - 1 : right].isdigit()]
    assert len(rows) > 10
    for line in rows:
        assert line[right] == " "
        assert re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", line)
    # What does not fit beside them stands below, as off a terminal everything fits 80 columns.
    assert all(line.startswith("    ") for line in attempts if line not in rows)


@pytest.mark.parametrize("command", ["show", "rejects"])
def test_an_unknown_run_is_reported(cli: CommandLine, command: str) -> None:
    (cli.folder / "state").mkdir()
    ended = cli.run(command, "20260101-000000-0000")
    assert ended.status == 2
    assert ended.stderr.startswith("error: no run 20260101-000000-0000")
    assert ended.stdout == ""


def test_a_locale_without_a_character_costs_no_run_its_status(
    cli: CommandLine, api: Emulator
) -> None:
    cli.write("export.txt", 3)
    cli.variables = {"PYTHONIOENCODING": "ascii"}
    name = ("--cohort-id", "c", "--cohort-name", "Zoé")
    pushed = cli.spawn("push", "export.txt", *name, "--json", anew=True)
    assert (pushed.status, pushed.document["status"]) == (0, "finished")
    shown = cli.spawn("show", pushed.document["run"], anew=True)
    assert shown.status == 0
    assert "Zo\\xe9" in shown.stdout
    assert api.received() == 1
