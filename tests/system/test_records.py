"""Off a terminal each line on stderr is a record, and the last says how the command ended."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress

import pytest
from clean_room import ENGINE, environment
from emulated_api import Emulator
from nightly import TARGET, CommandLine, Ended
from rich.cells import cell_len

from records import plain

COUNTS = ("rows_read", "planned", "accepted", "rejected", "unconfirmed", "pending", "requests")


def last(ended: Ended) -> dict[str, str]:
    """Return the last record; that all lines are records is looked at for every command."""
    output = ended.records[-1]
    assert int(output["exit_status"]) == ended.status
    levels = {0: "info", 1: "warning", 75: "warning"}
    assert output["level"] == levels.get(ended.status, "error")
    return output


def test_the_end_of_a_run_is_a_record(cli: CommandLine, emulate: Callable[..., Emulator]) -> None:
    cli.url = emulate("--poison", "bad").url
    cli.configure()
    cli.write("good.txt", 3)
    (cli.folder / "bad.txt").write_text("good\nbad\n")
    finished = last(cli.push("good.txt"))
    assert (finished["event"], finished["status"], finished["reason"]) == ("ended", "finished", "")
    assert [finished[count] for count in COUNTS] == ["3", "3", "3", "0", "0", "0", "1"]

    ended = cli.push("bad.txt")
    partial = last(ended)
    assert ended.status == 1
    command = f"`cohortsync rejects {partial['run']}` lists them"
    assert command in partial["reason"]
    assert ended.document["reason"] == partial["reason"]
    [shown, _] = json.loads(cli.run("runs", "--json").stdout)
    assert shown["reason"] == partial["reason"]
    assert command in cli.run("show", partial["run"]).stdout

    dry = last(cli.push("good.txt", "--dry-run"))
    assert (dry["run"], dry["status"], dry["pending"]) == ("", "dry_run", "3")

    failed = cli.push("nowhere.txt")
    output = last(failed)
    assert (output["event"], output["text"]) == ("error", failed.document["reason"])

    cli.variables["MOENGAGE_API_KEY"] = "some-other-key"
    refused = last(cli.push("good.txt"))
    assert (refused["event"], refused["status"]) == ("ended", "refused")
    assert refused["reason"]
    assert refused["hint"]


def test_the_end_of_a_mirror_is_a_record(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0})
    cli.write("many.txt", 2000)
    cli.write("few.txt", 1)
    target = (*TARGET[:2], "--cohort-name", "Night", "--json")
    planned = last(cli.run("plan", "many.txt", *target))
    assert (planned["status"], planned["pending"], planned["requests"]) == ("planned", "2000", "0")
    assert planned["hint"].startswith("`cohortsync apply ")
    assert last(cli.run("mirror", "many.txt", *target))["accepted"] == "2000"
    guarded = last(cli.run("mirror", "few.txt", *target))
    assert (guarded["status"], guarded["exit_status"]) == ("guarded", "4")
    assert guarded["reason"].startswith("removals: ")
    assert len(api.members()) == 2000

    same = cli.run("mirror", "many.txt", *target[:-1])
    assert last(same)["planned"] == "0"
    assert "nothing to change" in same.stdout
    assert same.records[-2]["text"].startswith("nothing to change")
    assert "requests" not in same.stdout


def test_other_commands_end_with_a_record_where_they_fail(cli: CommandLine) -> None:
    check = cli.run("check")
    assert check.status == 0
    assert check.log == ""
    (cli.folder / "empty").mkdir()
    lost = cli.run("push", "x", *TARGET, folder=cli.folder / "empty")
    assert "no workspace" in lost.stderr
    assert "--config FILE" in last(lost)["hint"]
    (cli.folder / "config.toml").write_text("[limits]\nrequests = 0\nwrong = 1\n")
    for words in (("check",), ("push", "x", *TARGET), ("why", "u", *TARGET[:2])):
        output = last(cli.run(*words))
        assert output["exit_status"] == "2"


def test_no_bar_is_drawn_where_nothing_is_sent(cli: CommandLine) -> None:
    cli.configure(mirror={"settle_seconds": 0})
    cli.write("many.txt", 2000)
    cli.write("few.txt", 1)
    target = (*TARGET[:2], "--cohort-name", "Night")

    def drawn(*words: str) -> bool:
        ended = cli.run(*words, *target, on_terminal=True)
        assert plain(ended.log).startswith("target ")
        return "uids accepted" in ended.log

    assert not drawn("push", "many.txt", "--dry-run")
    assert not drawn("plan", "many.txt")
    assert drawn("mirror", "many.txt")
    assert not drawn("mirror", "many.txt")
    assert not drawn("mirror", "few.txt")
    assert not drawn("mirror", "few.txt", "--shadow", "--allow", "removals=9000", "--reason", "x")


@pytest.mark.slow
def test_what_a_terminal_shows_fits_80_columns(cli: CommandLine) -> None:
    cli.configure(
        mirror={"settle_seconds": 0}, workspace={"partner": "a-partner-of-30-characters-00"}
    )
    cli.write("many.txt", 2000)
    folder = cli.folder / ("a folder with a long name " * 4) / "and another"
    folder.mkdir(parents=True)
    (folder / "list.csv").write_text("user_id,country\nx,IN\n\n")
    target = ("--cohort-id", "an-id-of-forty-characters-00000000000000", "--cohort-name", "N " * 30)
    lines: list[str] = []

    def run(*words: str, status: int = 0) -> None:
        ended = cli.run(*words, on_terminal=True)
        assert ended.status == status, ended.log
        lines.extend(plain(ended.stdout + ended.log).split("\n"))

    run("push", "many.txt", *target, "--dry-run")
    run("push", "many.txt", *target)
    run("push", str(folder / "list.csv"), "--column", "userid", *target, status=2)
    run("plan", "many.txt", "--cohort-id", "m", *target[2:])
    run("mirror", "many.txt", "--cohort-id", "m", *target[2:])
    run("runs")
    [_, _, pushed] = json.loads(cli.run("runs", "--json").stdout)
    run("show", pushed["run"])
    run("why", "x", *target[:2])
    run("check")
    run("snapshot", "list", "--cohort-id", "m")
    run("resume", "lost", status=2)
    assert not [line for line in lines if cell_len(line) > 80]


def bars(ended: Ended) -> list[str]:
    """Return what the bar said, one after the other."""
    lines = plain(ended.log).split("\n")
    return [line.lstrip("━╸╺ ") for line in lines if "uids accepted" in line]


@pytest.mark.slow
def test_the_bar_counts_the_whole_run_after_a_resume(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    cli.url = emulate("--fault-at", "500=2-3").url
    cli.configure(retry={"max_attempts": 1, "backoff_seconds": 0.05})
    cli.write("export.txt", 300)
    first = last(cli.push("export.txt"))
    assert (first["exit_status"], first["event"]) == ("75", "ended")
    assert 0 < int(first["accepted"]) < 300
    again = cli.run("push", "export.txt", *TARGET, on_terminal=True)
    assert again.status == 0
    known = f"goes on: 300 uids of it are in the ledger, {first['accepted']} of them accepted"
    assert known in plain(again.log).replace("\n  ", " ")
    assert bars(again)[-1] == "300 of 300 uids accepted · ETA 0:00"


def test_the_bar_of_an_apply_after_a_canary_ends_full(cli: CommandLine) -> None:
    cli.configure(mirror={"settle_seconds": 0})
    cli.write("export.txt", 300)
    planned = last(cli.run("plan", "export.txt", *TARGET))
    canary = cli.run("apply", planned["run"], "--first", "100", on_terminal=True)
    assert bars(canary)[-1] == "100 of 100 uids accepted · ETA 0:00"
    rest = cli.run("apply", planned["run"], on_terminal=True)
    assert bars(rest)[-1] == "300 of 300 uids accepted · ETA 0:00"


def test_a_real_terminal_shows_the_bar_and_then_the_summary(cli: CommandLine) -> None:
    cli.write("export.txt", 300)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*ENGINE, "push", "export.txt", *TARGET]
    variables = environment(cli.folder, TERM="xterm")
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, cwd=cli.folder
    ) as process:
        os.close(theirs)
        output = b""
        with suppress(OSError):  # Linux reports so that nobody holds the terminal any more.
            while chunk := os.read(ours, 65536):
                output += chunk
        os.close(ours)
    assert process.returncode == 0
    lines = [line for line in plain(output.decode()).split("\n") if line]
    assert "300 of 300 uids accepted · ETA 0:00" in "\n".join(lines)
    assert any(line.startswith("✓ Night: 300 added in ") for line in lines)
    assert max(map(cell_len, lines)) <= 80
