"""The command line's own frame: help, imports, and what becomes of a bug."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine import __version__
from engine.cli.application import app, main

COMMANDS = ("push", "resume", "runs", "show", "rejects", "check", "emulator", "demo")
HEAVY = {"aiohttp", "numpy", "pyarrow", "pydantic", "sqlite3", "uvloop"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert "--help" in result.stdout


def test_the_list_of_commands_is_complete() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(f" {command} " in result.stdout for command in COMMANDS)


def test_the_version_is_reported() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"cohortsync {__version__}\n")


def run_and_list_imports(words: list[str]) -> tuple[str, set[str]]:
    """Run `cohortsync` with these words; return its stdout, and what packages it imported."""
    program = (
        f"import sys; sys.argv = ['cohortsync', *{words!r}]\n"
        "from engine.cli.application import main\n"
        "try: main()\n"
        "except SystemExit as leaving: assert not leaving.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout, {name.partition(".")[0] for name in done.stderr.splitlines()}


def test_a_list_of_runs_imports_nothing_large(tmp_path: Path) -> None:
    stdout, imported = run_and_list_imports(["runs", "--json", "--state", str(tmp_path)])
    assert stdout == "[]\n"
    # typer itself may import pydantic, where a command has options.
    assert (imported & HEAVY) - {"pydantic"} == {"sqlite3"}


@pytest.mark.parametrize("words", [["--help"], [], ["push", "-h"], ["sync", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    stdout, imported = run_and_list_imports(words)
    assert "Usage:" in stdout
    assert "typer" in imported
    assert not imported & HEAVY


def test_a_program_imports_only_what_it_asks_for() -> None:
    program = (
        "import sys, engine\n"
        "assert not {'asyncio', 'typer'} & set(sys.modules)\n"
        "from engine import *\n"
        "missing = [name for name in engine.__all__ if name not in globals()]\n"
        "assert not missing, missing\n"
        "assert 'typer' not in sys.modules\n"
        "try: engine.Engin\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "module 'engine' has no attribute 'Engin'\n", done.stderr


def test_a_nightly_push_imports_nothing_that_only_terminals_need(tmp_path: Path) -> None:
    export = tmp_path / "export.txt"
    export.write_text("a\n", encoding="utf-8")
    cohort = ["--cohort-id", "c", "--cohort-name", "C"]
    stdout, imported = run_and_list_imports(["push", str(export), *cohort, "--dry-run", "--json"])
    assert json.loads(stdout)["uids"]["planned"] == 1
    assert "aiohttp" in imported
    assert "rich" not in imported


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads in /proc")
def test_a_command_has_no_threads_that_numpy_started() -> None:
    threads = (
        "import os, sys; sys.argv = ['cohortsync', '--version']\n"
        "from engine.cli.application import main\n"
        "try: main()\n"
        "except SystemExit: import numpy\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", threads], capture_output=True, cwd=ROOT, env=clean, check=True
    )
    assert done.stdout.split()[-1] == b"1"


def test_a_bug_is_reported_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("engine.report.history.all_runs", stumble)
    monkeypatch.setattr("sys.argv", ["cohortsync", "runs", "--json", "--state", str(tmp_path)])
    # It sets handlers for signals, which are this process's own to keep.
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as leaving:
        main()
    output = capsys.readouterr()
    assert leaving.value.code == 70
    assert "ZeroDivisionError" in output.err
    assert "this is a bug in cohortsync" in output.err
    assert json.loads(output.out)["exit_status"] == 70


def test_a_bug_in_a_run_is_reported_as_one_and_the_accounts_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    (tmp_path / "e.txt").write_text("u1\n")
    (tmp_path / "config.toml").write_text(
        '[workspace]\nid = "W"\nendpoint = "http://127.0.0.1:9"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOENGAGE_API_KEY", "key")
    monkeypatch.setattr("engine.runs.push.opening_of_push", stumble)
    cohort = ["--cohort-id", "c", "--cohort-name", "C"]
    monkeypatch.setattr("sys.argv", ["cohortsync", "push", "e.txt", *cohort, "--json"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as leaving:
        main()
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert leaving.value.code == document["exit_status"] == 70
    assert document["run"]
    assert "ZeroDivisionError" in document["reason"]
    assert "Traceback" in output.err
    assert "bug" in output.err
