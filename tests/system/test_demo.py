"""`cohortsync demo` and `check`, as someone tries them first."""

import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from clean_room import ENGINE, PATIENCE_SECONDS, environment, until
from emulated_api import Emulator
from nightly import TARGET, CommandLine


def test_the_demo_proves_itself(cli: CommandLine) -> None:
    ended = cli.spawn("demo", "--uids", "20000", "--requests", "300", "--per-seconds", "2")
    assert ended.status == 0, ended.stderr
    assert "20,000 members" in ended.stdout
    assert "0 missing, 0 extra" in ended.words
    assert "breaches of the contract: none" in ended.words
    assert re.search(r"target=\"EMULATOR 127\.0\.0\.1:\d+\"", ended.stderr)


def test_a_demo_that_is_stopped_drains_and_proves_nothing(tmp_path: Path) -> None:
    command = [*ENGINE, "demo", "--uids", "200000", "--requests", "2", "--per-seconds", "1"]
    with (tmp_path / "stderr").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(tmp_path, TMPDIR=str(tmp_path)),
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
    try:
        until(lambda: "event=opened" in (tmp_path / "stderr").read_text(), "it pushes")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        stdout, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    output = (tmp_path / "stderr").read_text()
    assert process.returncode == 75, output
    assert "Traceback" not in output
    assert "SIGINT received" in output
    assert b"proof" not in stdout
    assert not list(tmp_path.glob("cohortsync-demo-*"))


def test_the_preflight_says_what_is_in_order(cli: CommandLine, api: Emulator) -> None:
    assert cli.run("check").status == 0
    assert not (cli.folder / "state").exists()
    ended = cli.run("check", "--live", "--json")
    assert ended.status == 0, ended.stdout
    verdicts = {each["name"]: each["status"] for each in ended.document["findings"]}
    assert verdicts["key"] == verdicts["state"] == verdicts["tcp"] == "ok"
    assert api.received() == 1
    # The request counts against the ceiling of whatever is run next.
    assert len(cli.ledger_files()) == 1


@pytest.mark.parametrize("spoiled", ["corrupt", "newer"])
def test_the_preflight_finds_a_ledger_that_a_push_would_refuse(
    cli: CommandLine, api: Emulator, spoiled: str
) -> None:
    cli.write("export.txt", 3)
    assert cli.push("export.txt").status == 0
    assert cli.run("check").status == 0
    [path] = cli.ledger_files()
    if spoiled == "corrupt":
        path.write_bytes(b"no database" * 1000)
    else:
        with closing(sqlite3.connect(path)) as ledger:
            ledger.execute("PRAGMA user_version = 99")
    received = api.received()
    for command in (("check", "--json"), ("push", "export.txt", *TARGET, "--json")):
        assert cli.run(*command).status == 2
    [state] = [f for f in cli.run("check", "--json").document["findings"] if f["name"] == "state"]
    assert state["status"] == "failed"
    assert str(path) in state["detail"]
    assert api.received() == received


def test_the_preflight_finds_a_limit_that_leaves_no_room(cli: CommandLine) -> None:
    cli.configure(limits={"payload_bytes": 50})
    ended = cli.run("check", "--json")
    assert ended.status == 2
    found = ended.document["findings"][0]
    assert (found["name"], found["status"]) == ("configuration", "failed")
    assert "leaves no room for a uid" in found["detail"]
